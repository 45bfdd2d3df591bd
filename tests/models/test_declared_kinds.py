"""Each kind of model without code: tiny graphs whose answers are known by hand, through the real batcher."""

import io
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from penstock.core.output import OutputOptions
from penstock.errors import InvalidOutput, InvalidRequest
from penstock.models.declared.check import answered
from penstock.models.declared.kinds.packing import npy, npz
from penstock.models.onnxruntime.session import manifest
from penstock.models.superres import SuperResolution
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu
from tests.support.declared import (
    ALONE,
    BATCHING,
    data,
    folder_of,
    loaded,
    model,
    node,
    noise,
    pixels,
    png,
    served,
)

MEANS = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "y")]
"""The mean of each channel, (n, 3)."""

NOTHING = [node("GlobalAveragePool", "x", "p"), node("Sub", "p p", "z"), node("ReduceMax", "z", "o", keepdims=0)]
"""The number 0, whatever the image is."""

SMALL = '[input]\nsize = [4, 4]\nrange = "0-255"\n'


def means(batch: str | int = "n", side: int = 4) -> bytes:
    return model(MEANS, [("x", "float32", [batch, 3, side, side])], [("y", "float32", [batch, 3])])


def flat(*levels: int) -> bytes:
    """An image of one colour."""
    return png(np.full((4, 4, 3), levels, np.uint8))


async def test_labels_are_named_best_first_with_their_probabilities(tmp_path: Path) -> None:
    toml = f'kind = "image-to-labels"\n{SMALL}[output]\nactivation = "softmax"\nlabels = ["red", "green", "blue"]\n'
    folder = folder_of(tmp_path, toml, means())

    first, second = await served(folder, [flat(1, 3, 2), flat(4, 4, 0)], top_k=2)

    e = np.exp(np.array([1.0, 3.0, 2.0]))
    assert data(first)["labels"] == [
        {"label": "green", "index": 1, "probability": pytest.approx(e[1] / e.sum(), abs=1e-6)},
        {"label": "blue", "index": 2, "probability": pytest.approx(e[2] / e.sum(), abs=1e-6)},
    ]
    assert [label["label"] for label in data(second)["labels"]] == ["red", "green"]


async def test_labels_may_lie_in_a_file_and_a_sigmoid_is_for_each(tmp_path: Path) -> None:
    toml = f'kind = "image-to-labels"\n{SMALL}[output]\nactivation = "sigmoid"\nlabels = "names.txt"\n'
    folder = folder_of(tmp_path, toml, means(), names_txt=b"red\ngreen\n")

    (answer,) = await served(folder, [flat(0, 2, 1)])

    assert data(answer)["labels"] == [
        {"label": "green", "index": 1, "probability": pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)},
        {"label": "class2", "index": 2, "probability": pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)},
        {"label": "red", "index": 0, "probability": 0.5},
    ]


async def test_labels_of_a_file_that_an_editor_wrote_are_the_names_alone(tmp_path: Path) -> None:
    toml = f'kind = "image-to-scores"\n{SMALL}[output]\nlabels = "names.txt"\n'
    folder = folder_of(tmp_path, toml, means(), names_txt="\ufeffred\r\n\r\n blue \r\n".encode())

    (answer,) = await served(folder, [flat(1, 3, 2)])

    assert answer.data == {"scores": {"red": 1.0, "class1": 3.0, "blue": 2.0}}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("", {"scores": [3.0, 1.0, 2.0]}), ('labels = ["a", "b", "c"]', {"scores": {"a": 3.0, "b": 1.0, "c": 2.0}})],
)
async def test_scores_come_as_the_network_gives_them(tmp_path: Path, labels: str, expected: object) -> None:
    folder = folder_of(tmp_path, f'kind = "image-to-scores"\n{SMALL}[output]\n{labels}\n', means())

    (answer,) = await served(folder, [flat(3, 1, 2)])

    assert answer.data == expected


async def test_one_number_is_a_score(tmp_path: Path) -> None:
    mean = model(
        [*MEANS, node("ReduceMean", "y", "m", axes=[1])],
        [("x", "float32", [1, 3, 4, 4])],
        [("m", "float32", [1, 1])],
    )
    folder = folder_of(tmp_path, f'kind = "image-to-scores"\n{SMALL}', mean)

    (answer,) = await served(folder, [flat(3, 1, 2)])

    assert answer.data == {"score": 2.0}


async def test_an_embedding_has_the_length_one_and_comes_as_a_list_or_as_a_file(tmp_path: Path) -> None:
    toml = f'kind = "image-to-embedding"\n{SMALL}[output]\nnormalised = true\n'
    folder = folder_of(tmp_path, toml, means())

    (as_list,) = await served(folder, [flat(2, 1, 2)])
    (as_file,) = await served(folder, [flat(2, 1, 2)], format="npy")

    assert as_list.data == {"embedding": pytest.approx([2 / 3, 1 / 3, 2 / 3]), "dimensions": 3}
    assert as_file.data == {"dimensions": 3}
    assert as_file.extension == "npy"
    assert np.load(io.BytesIO(as_file.file or b""), allow_pickle=False).tolist() == as_list.data["embedding"]


@pytest.mark.parametrize(
    ("pool", "expected"), [("first", [0.0, 1.0]), ("mean", [2.0, 3.0]), ("none", [0, 1, 2, 3, 4, 5])]
)
async def test_of_several_vectors_the_first_or_their_mean_is_the_embedding(
    tmp_path: Path, pool: str, expected: list[float]
) -> None:
    vectors = model(
        [*NOTHING, node("Add", "o six", "y")],
        [("x", "float32", [1, 3, 4, 4])],
        [("y", "float32", [1, 3, 2])],
        six=np.arange(6, dtype=np.float32).reshape(1, 3, 2),
    )  # fmt: skip
    folder = folder_of(tmp_path, f'kind = "image-to-embedding"\n{SMALL}[output]\npool = "{pool}"\n', vectors)

    (answer,) = await served(folder, [flat(2, 1, 2)])

    assert data(answer)["embedding"] == expected


def detector(rows: np.ndarray, *outputs: tuple[str, np.ndarray], batch: str | int = 1) -> bytes:
    """A network that finds the same in every image."""
    found = [("y", rows), *outputs]
    nodes = [*NOTHING, *(node("Add", f"o {name}_values", name) for name, _ in found)]
    ports = [(name, "float32", list(values.shape)) for name, values in found]
    return model(
        nodes, [("x", "float32", [batch, 3, 64, 64])], ports, **{f"{n}_values": v.astype(np.float32) for n, v in found}
    )


BOXES = [[16, 16, 16, 16, 0.9, 0.1], [17, 16, 16, 16, 0.8, 0.1], [17, 16, 16, 16, 0.1, 0.7], [40, 40, 8, 8, 0.2, 0.1]]
"""Centre, size, scores of two classes: the second is the first again, the third is of the other class, the fourth is
not sure enough."""

LETTERBOX = (
    'kind = "image-to-boxes"\n[input]\nresize = "letterbox"\nsize = [64, 64]\n[output]\nlabels = ["cat", "dog"]\n'
)


@pytest.mark.parametrize("transposed", [False, True])
async def test_raw_boxes_are_in_pixels_of_the_original_without_those_that_overlap(
    tmp_path: Path, transposed: bool
) -> None:
    rows = np.array([BOXES])
    network = detector(rows if transposed else rows.transpose(0, 2, 1))
    folder = folder_of(tmp_path, LETTERBOX + f"transposed = {str(transposed).lower()}\n", network)

    (answer,) = await served(folder, [png(noise(64, 128))])

    # 128 x 64 px are 64 x 32 in the tensor, 16 px from its upper edge.
    assert answer.data == {
        "boxes": [
            {"label": "cat", "index": 0, "score": pytest.approx(0.9, abs=1e-6), "box": [16.0, 0.0, 48.0, 16.0]},
            {"label": "dog", "index": 1, "score": pytest.approx(0.7, abs=1e-6), "box": [18.0, 0.0, 50.0, 16.0]},
        ],
        "width": 128,
        "height": 64,
    }


async def test_boxes_are_in_pixels_of_the_upright_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, LETTERBOX, detector(np.array([BOXES]).transpose(0, 2, 1)))

    (answer,) = await served(folder, [png(noise(64, 128), orientation=6)])

    assert (data(answer)["width"], data(answer)["height"]) == (64, 128)
    assert data(answer)["boxes"][0]["box"] == [0.0, 16.0, 16.0, 48.0]


async def test_clients_say_which_boxes_count(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, LETTERBOX, detector(np.array([BOXES]).transpose(0, 2, 1)))
    image = png(noise(64, 64))

    all_of_them = await served(folder, [image], score=0.2, iou=1.0)
    sure = await served(folder, [image], score=0.75)
    one = await served(folder, [image], most=1)

    assert [len(data(answers[0])["boxes"]) for answers in (all_of_them, sure, one)] == [4, 1, 1]


async def test_boxes_overlap_among_all_classes_where_the_definition_says_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, LETTERBOX + 'nms = "all"\n', detector(np.array([BOXES]).transpose(0, 2, 1)))

    (answer,) = await served(folder, [png(noise(64, 64))])

    assert [box["label"] for box in data(answer)["boxes"]] == ["cat"]


async def test_an_objectness_multiplies_the_scores(tmp_path: Path) -> None:
    rows = np.array([[[16, 16, 16, 16, 0.5, 0.9, 0.1]]])
    toml = LETTERBOX + 'boxes = "5+n"\ntransposed = true\n'

    (answer,) = await served(folder_of(tmp_path, toml, detector(rows)), [png(noise(64, 64))])

    assert [box["score"] for box in data(answer)["boxes"]] == [pytest.approx(0.45)]


async def test_end_to_end_boxes_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = np.array([[[8, 8, 24, 24, 0.9, 1], [8, 8, 24, 24, 0.8, 1], [0, 0, 0, 0, 0, 0]]])

    (answer,) = await served(
        folder_of(tmp_path, LETTERBOX + 'boxes = "end2end"\n', detector(rows)), [png(noise(128, 128))]
    )

    boxes = data(answer)["boxes"]
    assert [box["box"] for box in boxes] == [[16.0, 16.0, 48.0, 48.0]] * 2
    assert {box["label"] for box in boxes} == {"dog"}


async def test_boxes_scores_and_classes_may_be_outputs_of_their_own(tmp_path: Path) -> None:
    boxes = np.array([[[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    network = detector(boxes, ("s", np.array([[0.6, 0.9]])), ("c", np.array([[0, 1]])))
    toml = (
        LETTERBOX
        + 'boxes = "separate"\nname = "y"\nscores = "s"\nclasses = "c"\ncorners = "corners"\nunits = "share"\n'
    )

    (answer,) = await served(folder_of(tmp_path, toml, network), [png(noise(64, 64))])

    assert [(box["label"], box["box"]) for box in data(answer)["boxes"]] == [
        ("dog", [32.0, 32.0, 64.0, 64.0]),
        ("cat", [16.0, 16.0, 32.0, 32.0]),
    ]


@pytest.mark.parametrize(
    ("boxes", "scores", "classes"),
    [
        ((1, 2, 5), (1, 2), (1, 2)),
        ((1, 4, 2), (1, 2), (1, 2)),
        ((1, 2, 4), (1, 3), (1, 2)),
        ((1, 2, 4), (1, 2), (1, 3)),
    ],
)
async def test_separate_boxes_that_do_not_fit_their_scores_are_no_answer(
    tmp_path: Path, boxes: tuple[int, ...], scores: tuple[int, ...], classes: tuple[int, ...]
) -> None:
    network = detector(np.ones(boxes), ("s", np.ones(scores)), ("c", np.ones(classes)))
    toml = LETTERBOX + 'boxes = "separate"\nname = "y"\nscores = "s"\nclasses = "c"\ncorners = "corners"\n'

    with pytest.raises(InvalidOutput, match=f"gave \\[1, {boxes[1]}, {boxes[2]}\\], "):
        await served(folder_of(tmp_path, toml, network), [png(noise(64, 64))])


async def test_grids_of_yolox_are_decoded(tmp_path: Path) -> None:
    cells = np.full((1, 4 * 4, 6), -9.0)
    cells[0, 4 * 1 + 2] = [0.5, 0.25, 0.0, np.log(2), 1.0, 0.8]  # the cell in row 1, column 2
    cells[..., 4:] = cells[..., 4:].clip(0)
    toml = LETTERBOX.replace('"cat", "dog"', '"cat"') + 'boxes = "yolox"\nstrides = [16]\n'

    (answer,) = await served(folder_of(tmp_path, toml, detector(cells)), [png(noise(64, 64))])

    assert [box["box"] for box in data(answer)["boxes"]] == [[32.0, 4.0, 48.0, 36.0]]


CHANNELS = 'kind = "image-to-mask"\n[input]\nsize = [8, 8]\n[output]\n'


def first_channel(side: int | str = 8) -> bytes:
    """The first channel of the input as a mask."""
    return model(
        [node("Slice", "x zero one axis", "y")],
        [("x", "float32", [1, 3, side, side])],
        [("y", "float32", [1, 1, side, side])],
        zero=np.array([0]),
        one=np.array([1]),
        axis=np.array([1]),
    )


def halves(height: int, width: int) -> np.ndarray:
    """Red on the left, black on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    return image


async def test_a_mask_has_the_size_of_the_original(tmp_path: Path) -> None:
    toml = CHANNELS.replace("size", 'resample = "area"\nsize') + 'resample = "nearest"\n'
    folder = folder_of(tmp_path, toml, first_channel())

    (answer,) = await served(folder, [png(halves(30, 48))])

    assert answer.data == {"share": 0.5}
    assert (pixels(answer) == halves(30, 48)[..., 0]).all()


@pytest.mark.parametrize(
    ("resize", "height", "width"), [("letterbox", 16, 32), ("letterbox", 32, 16), ("square", 16, 32)]
)
async def test_a_mask_of_a_padded_image_is_that_of_the_image_alone(
    tmp_path: Path, resize: str, height: int, width: int
) -> None:
    toml = CHANNELS.replace("size", f'resize = "{resize}"\nresample = "area"\npad_value = 255\nsize')
    folder = folder_of(tmp_path, toml + 'resample = "nearest"\n', first_channel())

    (answer,) = await served(folder, [png(halves(height, width))])

    assert (pixels(answer) == halves(height, width)[..., 0]).all()


async def test_what_a_crop_has_not_seen_is_no_part_of_the_mask(tmp_path: Path) -> None:
    toml = CHANNELS.replace("size", 'resize = "crop"\nsize')
    folder = folder_of(tmp_path, toml, first_channel())

    (answer,) = await served(folder, [png(np.full((16, 48, 3), 255, np.uint8))])

    assert (pixels(answer)[:, 16:32] == 255).all()
    assert not np.delete(pixels(answer), slice(16, 32), axis=1).any()


def test_the_memory_of_an_image_counts_what_it_is_padded_and_resized_to(tmp_path: Path) -> None:
    square = loaded(folder_of(tmp_path, CHANNELS.replace("size", 'resize = "square"\nsize'), first_channel()))
    narrow = png(np.zeros((2000, 1, 3), np.uint8))

    assert square.memory_needed(narrow, square.params()) > 2000 * 2000 * 7


async def test_a_cut_out_keeps_the_colours_and_has_the_mask_as_alpha(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CHANNELS + 'mask = "cut-out"\nresample = "nearest"\n', first_channel())
    image = np.dstack([halves(16, 16), np.full((16, 16), 200, np.uint8)])

    (answer,) = await served(folder, [png(image)])

    assert pixels(answer).shape == (16, 16, 4)
    assert (pixels(answer)[..., :3] == image[..., :3]).all()
    assert (pixels(answer)[:, :8, 3] == 200).all()  # as transparent as it was: red on white is no pure red


async def test_a_threshold_leaves_no_greys(tmp_path: Path) -> None:
    ramp = np.zeros((8, 8, 3), np.uint8)
    ramp[..., 0] = np.arange(0, 256, 32)
    folder = folder_of(tmp_path, CHANNELS, first_channel())

    (grey,) = await served(folder, [png(ramp)])
    (sharp,) = await served(folder, [png(ramp)], threshold=0.5)

    assert (pixels(grey) == ramp[..., 0]).all()
    assert (pixels(sharp) == np.where(ramp[..., 0] >= 128, 255, 0)).all()


async def test_min_max_spreads_the_values_over_all_greys(tmp_path: Path) -> None:
    ramp = np.zeros((8, 8, 3), np.uint8)
    ramp[..., 0] = np.arange(100, 116, 2)
    folder = folder_of(tmp_path, CHANNELS + 'range = "min-max"\n', first_channel())

    (answer,) = await served(folder, [png(ramp)])

    assert pixels(answer)[0].tolist() == [round(255 * n / 7) for n in range(8)]


async def test_a_mask_of_a_graph_whose_channels_are_last_may_lack_their_axis(tmp_path: Path) -> None:
    first = model(
        [node("Gather", "x zero", "y", axis=3)],
        [("x", "float32", [1, 8, 8, 3])],
        [("y", "float32", [1, 8, 8])],
        zero=np.array(0),
    )
    folder = folder_of(tmp_path, CHANNELS.replace("size", 'layout = "NHWC"\nsize'), first)

    (answer,) = await served(folder, [png(halves(8, 8))])

    assert (pixels(answer) == halves(8, 8)[..., 0]).all()


async def test_of_more_than_two_channels_none_is_taken_for_the_mask(tmp_path: Path) -> None:
    same = model([node("Neg", "x", "y")], [("x", "float32", [1, 3, 8, 8])], [("y", "float32", [1, 3, 8, 8])])

    with pytest.raises(InvalidOutput, match=r"gave 3 channels, .* say output.mask"):
        await served(folder_of(tmp_path, CHANNELS, same), [png(halves(8, 8))])


async def test_of_several_channels_the_greatest_is_the_class(tmp_path: Path) -> None:
    same = model([node("Identity", "x", "i"), node("Neg", "i", "m"), node("Neg", "m", "y")],
                 [("x", "float32", [1, 3, 8, 8])], [("y", "float32", [1, 3, 8, 8])])  # fmt: skip
    toml = CHANNELS + 'mask = "classes"\nlabels = ["red", "green", "blue"]\n'
    image = halves(8, 8)
    image[:, 4:, 2] = 255

    (answer,) = await served(folder_of(tmp_path, toml, same), [png(image)])

    assert answer.data == {"shares": {"red": 0.5, "blue": 0.5}}
    assert (pixels(answer) == np.where(np.arange(8) < 4, 0, 2)).all()


REPEATED = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}


def doubled(channels: int = 3, layout: str = "NCHW", dtype: str = "float32", batch: str | int = "n") -> bytes:
    """Every pixel becomes four."""
    scales = np.array([1, 1, 2, 2] if layout == "NCHW" else [1, 2, 2, 1], np.float32)
    shape = [batch, channels, "h", "w"] if layout == "NCHW" else [batch, "h", "w", channels]
    larger = [batch, channels, "H", "W"] if layout == "NCHW" else [batch, "H", "W", channels]
    return model(
        [node("Resize", "x - scales", "y", **REPEATED)],
        [("x", dtype, shape)],
        [("y", dtype, larger)],
        scales=scales,
    )


UPSCALE = 'kind = "image-to-image"\n[input]\nresize = "none"\n{input}[output]\nscale = 2\n{output}'
TILED = '[tiles]\nallowed = "{allowed}"\noverlap_px = 8\n'


def twice(image: np.ndarray) -> np.ndarray:
    return image.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("allowed", ["never", "supported", "discouraged"])
@pytest.mark.parametrize(
    ("dtype", "layout", "more_input", "more_output"),
    [
        ("float32", "NCHW", "", ""),
        ("float32", "NHWC", 'layout = "NHWC"\ncolour = "BGR"\n', ""),
        ("float32", "NCHW", 'range = "-1-1"\n', 'range = "-1-1"\n'),
        ("float16", "NCHW", 'dtype = "float16"\n', ""),
        ("uint8", "NHWC", 'dtype = "uint8"\nlayout = "NHWC"\nrange = "0-255"\n', 'range = "0-255"\n'),
    ],
)
async def test_an_image_is_enlarged_in_one_piece_or_in_tiles(
    tmp_path: Path, allowed: str, dtype: str, layout: str, more_input: str, more_output: str
) -> None:
    toml = UPSCALE.format(input=more_input, output=more_output) + TILED.format(allowed=allowed)
    folder = folder_of(tmp_path, toml, doubled(layout=layout, dtype=dtype))
    images = [noise(150, 170, 1), noise(90, 64, 2)]

    answers = await served(folder, [png(image) for image in images])

    for image, answer in zip(images, answers, strict=True):
        assert (pixels(answer) == twice(image)).all()
        assert (answer.width, answer.height) == (2 * image.shape[1], 2 * image.shape[0])


@pytest.mark.parametrize("channels", [1, 4])
def test_a_large_image_in_tiles_is_written_while_they_come(tmp_path: Path, channels: int) -> None:
    toml = UPSCALE.format(input="", output="") + TILED.format(allowed="supported")
    runner = loaded(folder_of(tmp_path, toml, doubled()), cpu(1))
    source = png(noise(1100, 900, channels=channels))
    work, whole = (runner.prepare(source, runner.params()) for _ in range(2))
    stream = runner.stream(work, runner.params(), OutputOptions())
    assert stream is not None
    assert runner.stream(whole, runner.params(), OutputOptions(format="jpeg")) is None
    file = b""
    for index in range(work.count):
        (output,) = runner.infer(work.tile(index)[None], work)
        work.accept(index, output)
        whole.accept(index, output)
        while stream.writer.is_ready:
            file += stream.writer.write()
    product = replace(stream.product, file=file + stream.writer.finish())

    assert (pixels(product) == pixels(runner.postprocess(whole, runner.params(), OutputOptions()))).all()
    assert (product.width, product.height) == (1800, 2200)


async def test_grey_stays_grey_and_transparency_is_put_back(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, UPSCALE.format(input="", output=""), doubled())
    grey, clear = noise(20, 30, channels=1), noise(20, 30, channels=4)
    clear[..., 3] = 120

    of_grey, of_clear = await served(folder, [png(grey), png(clear)])

    assert (pixels(of_grey) == twice(grey)).all()
    assert (pixels(of_clear) == twice(clear)).all()


async def test_a_network_of_four_channels_takes_and_gives_transparency(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, UPSCALE.format(input='channels = 4\ncolour = "RGBA"\n', output=""), doubled(4))
    image = noise(20, 30, channels=4)

    (answer,) = await served(folder, [png(image)])

    assert (pixels(answer) == twice(image)).all()


async def test_a_network_of_one_channel_gives_a_grey_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, UPSCALE.format(input='channels = 1\ncolour = "grey"\n', output=""), doubled(1))
    image = noise(20, 30, channels=1)

    (answer,) = await served(folder, [png(image)])

    assert (pixels(answer) == twice(image)).all()


@pytest.mark.parametrize("allowed", ["never", "supported"])
async def test_a_border_that_the_network_takes_away_is_put_around_before(tmp_path: Path, allowed: str) -> None:
    less = model(
        [
            node("Slice", "x from to axes", "s"),
            node("Resize", "s - scales", "y", **REPEATED),
        ],
        [("x", "float32", ["n", 3, "h", "w"])],
        [("y", "float32", ["n", 3, "H", "W"])],
        **{"from": np.array([7, 7]), "to": np.array([-7, -7]), "axes": np.array([2, 3])},
        scales=np.array([1, 1, 2, 2], np.float32),
    )  # fmt: skip
    toml = UPSCALE.format(input="border_px = 7\n", output="") + TILED.format(allowed=allowed)
    image = noise(150, 90)

    (answer,) = await served(folder_of(tmp_path, toml, less), [png(image)])

    assert (pixels(answer) == twice(image)).all()


async def test_the_edges_of_an_image_look_the_same_in_tiles_and_in_one_piece(tmp_path: Path) -> None:
    blurred = model(
        [
            node("AveragePool", "x", "s", kernel_shape=[15, 15], strides=[1, 1]),
            node("Resize", "s - scales", "y", **REPEATED),
        ],
        [("x", "float32", ["n", 3, "h", "w"])],
        [("y", "float32", ["n", 3, "H", "W"])],
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    toml = UPSCALE.format(input="border_px = 7\n", output="")
    image = png(noise(150, 90))

    answers = [
        await served(folder_of(tmp_path / allowed, toml + TILED.format(allowed=allowed), blurred), [image])
        for allowed in ("never", "supported")
    ]

    whole, tiled = (pixels(answer).astype(int) for (answer,) in answers)
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize(("resize", "more"), [("pad", "multiple_of = 16\n"), ("multiple", "multiple_of = 2\n")])
async def test_an_image_is_padded_or_stretched_to_sides_that_the_network_takes(
    tmp_path: Path, resize: str, more: str
) -> None:
    toml = UPSCALE.format(input=more, output="").replace('"none"', f'"{resize}"')
    image = noise(22, 30)

    (answer,) = await served(folder_of(tmp_path, toml, doubled()), [png(image)])

    assert (pixels(answer) == twice(image)).all()


async def test_tensors_of_an_image_come_as_data_and_where_they_are_many_as_a_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, f'kind = "image-to-tensors"\n{SMALL}', means())

    (small,) = await served(folder, [flat(3, 1, 2)])
    (file,) = await served(folder, [flat(3, 1, 2)], format="npz")
    whole = folder_of(tmp_path / "whole", 'kind = "image-to-tensors"\n[input]\nresize = "none"\n', doubled())
    (large,) = await served(whole, [png(noise(300, 300))])

    assert small.data == {"outputs": {"y": {"shape": [1, 3], "dtype": "float32", "values": [[3.0, 1.0, 2.0]]}}}
    assert np.load(io.BytesIO(file.file or b""), allow_pickle=False)["y"].tolist() == [[3.0, 1.0, 2.0]]
    assert large.data == {"outputs": {"y": {"shape": [1, 3, 600, 600], "dtype": "float32"}}}
    assert np.load(io.BytesIO(large.file or b""), allow_pickle=False)["y"].shape == (1, 3, 600, 600)


TWO = (
    'kind = "tensors"\n[[tensors]]\nname = "a"\nshape = ["n", 2]\n'
    '[[tensors]]\nname = "b.1"\ndtype = "int64"\nshape = ["n", 2]\n'
)


def sums(first: str | int = "n") -> bytes:
    return model(
        [node("Cast", "b.1", "c", to=1), node("Add", "a c", "sum"), node("Mul", "a c", "product")],
        [("a", "float32", [first, 2]), ("b.1", "int64", [first, 2])],
        [("sum", "float32", [first, 2]), ("product", "float32", [first, 2])],
    )


async def test_tensors_go_in_by_name_and_come_out_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TWO, sums())
    sources = [{"a": [[n, 2]], "b_1": [[3, 4]]} for n in range(5)] + [{"a": [[1, 2], [3, 4]], "b_1": [[1, 1], [2, 2]]}]

    answers = await served(folder, sources)

    for n, answer in enumerate(answers[:5]):
        outputs = data(answer)["outputs"]
        assert outputs["sum"] == {"shape": [1, 2], "dtype": "float32", "values": [[n + 3.0, 6.0]]}
        assert outputs["product"]["values"] == [[n * 3.0, 8.0]]
    assert data(answers[5])["outputs"]["sum"]["values"] == [[2.0, 3.0], [5.0, 6.0]]


async def test_tensors_come_in_a_file_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TWO, sums())
    out = io.BytesIO()
    np.savez(out, **{"a": np.float32([[1, 2]]), "b.1": np.int64([[3, 4]])})
    one = folder_of(
        tmp_path / "one",
        'kind = "tensors"\n[[tensors]]\nname = "x"\nshape = ["n"]\n',
        model([node("Neg", "x", "y")], [("x", "float32", ["n"])], [("y", "float32", ["n"])]),
    )
    alone = io.BytesIO()
    np.save(alone, np.array([1.5, 2.5], ">f4"))

    (of_archive,) = await served(folder, [{"file": out.getvalue()}])
    (of_array,) = await served(one, [{"file": alone.getvalue()}])

    assert data(of_archive)["outputs"]["sum"]["values"] == [[4.0, 6.0]]
    assert data(of_array)["outputs"]["y"]["values"] == [-1.5, -2.5]


@pytest.mark.parametrize(
    ("source", "param", "words"),
    [
        ({"a": [[1, 2]]}, "input.b_1", "missing"),
        ({"a": [[1, 2], [3]], "b_1": [[1, 2]]}, "input.a", "no array of float32"),
        ({"a": [[1, "2"]], "b_1": [[1, 2]]}, "input.a", "no array of float32"),
        ({"a": [[1, 2, 3]], "b_1": [[1, 2]]}, "input.a", r"input.a has the shape \[1, 3\], not \[1, 2\]"),
        ({"a": [[1, 2]], "b_1": [[1, 2], [3, 4]]}, "input.b_1", r"has the shape \[2, 2\], not \[1, 2\]"),
        ({"a": [], "b_1": []}, "input.a", r"is empty: it has the shape \[0\]"),
        ({"file": npy(np.float32([[1, 2]]))}, "input.file", r"several arrays: a \.npz file with their names"),
        ({"a": [[1, 2]], "b_1": [[1.5, 2]]}, "input.b_1", "no array of int64"),
        ({"a": [[1, 2]], "b_1": [[2**70, 2]]}, "input.b_1", "no array of int64"),
        ({"a": [[1, 2]], "b_1": [], "file": b"PK none"}, "input.file", r"\.npy or \.npz"),
        ({"file": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 99},
         "input.file", r"\.npy or \.npz"),
        ({"a": [[1, 1e300]], "b_1": [[1, 2]]}, "input.a", "values that float32 cannot hold"),
        ({"a": [[1, 2]], "file": npz({"b.1": np.uint64([[1, 2**63]])})}, "input.b_1", "values that int64 cannot hold"),
        ({"b_1": [[1, 2]], "file": npz({"a": np.float64([[1, -1e39]])})}, "input.a", "values that float32 cannot hold"),
    ],
)  # fmt: skip
async def test_tensors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, source: dict[str, object], param: str, words: str
) -> None:
    folder = folder_of(tmp_path, TWO, sums())

    with pytest.raises(InvalidRequest, match=words) as refused:
        await served(folder, [source])

    assert refused.value.param == param


async def test_a_tensor_with_the_name_of_the_file_gets_another_one(tmp_path: Path) -> None:
    toml = 'kind = "tensors"\n[[tensors]]\nname = "file"\nshape = ["n"]\n'
    network = model([node("Neg", "file", "y")], [("file", "float32", ["n"])], [("y", "float32", ["n"])])
    folder = folder_of(tmp_path, toml, network)

    answers = await served(folder, [{"in_file": [2]}, {"file": npz({"file": np.float32([2])})}])

    assert [data(answer)["outputs"]["y"]["values"] for answer in answers] == [[-2.0], [-2.0]]


def test_the_memory_of_tensors_counts_what_a_file_unpacks_to(tmp_path: Path) -> None:
    runner = loaded(folder_of(tmp_path, TWO, sums()))
    out = io.BytesIO()
    np.savez_compressed(out, **{"a": np.zeros((100_000, 2), np.int8), "b.1": np.zeros((100_000, 2), np.int8)})

    needed = runner.memory_needed({"file": out.getvalue()}, runner.params())

    assert needed > 400_000 * 8 > 100 * len(out.getvalue())


NOT_A_NUMBER = model(
    [*MEANS, node("Sub", "y y", "z"), node("Div", "z z", "nan")],
    [("x", "float32", ["n", 3, 4, 4])],
    [("nan", "float32", ["n", 3])],
)


@pytest.mark.parametrize("kind", ["image-to-labels", "image-to-scores", "image-to-embedding", "image-to-tensors"])
def test_values_that_are_no_numbers_are_no_answer(tmp_path: Path, kind: str) -> None:
    runner = loaded(folder_of(tmp_path, f'kind = "{kind}"\n{SMALL}', NOT_A_NUMBER), ALONE)
    work = runner.prepare(flat(1, 2, 3), runner.params())
    work.accept(0, runner.infer(work.tile(0)[None], work)[0])

    with pytest.raises(InvalidOutput, match="not numbers"):
        runner.postprocess(work, runner.params(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["image-to-labels", "image-to-image"])
async def test_what_is_guessed_stands_in_each_result(tmp_path: Path, kind: str) -> None:
    guessed = '[guessed]\n"input.range" = "files do not say"\n"input.colour" = "most are so"\n'
    if kind == "image-to-image":
        folder = folder_of(tmp_path, UPSCALE.format(input="", output="") + guessed, doubled())
    else:
        folder = folder_of(tmp_path, f'kind = "{kind}"\n{SMALL}{guessed}', means())

    (answer,) = await served(folder, [flat(1, 2, 3)])

    assert data(answer)["guessed"] == ["input.colour", "input.range"]


@pytest.mark.parametrize("batch", ["n", 1, 2, 3])
async def test_a_batch_of_any_number_a_graph_takes_equals_each_alone(tmp_path: Path, batch: str | int) -> None:
    folder = folder_of(tmp_path, f'kind = "image-to-scores"\n{SMALL}', means(batch))
    sources = [flat(n, 2 * n, 50) for n in range(7)]

    together = await served(folder, sources, BATCHING)
    alone = [(await served(folder, [source], ALONE))[0] for source in sources]

    assert [answer.data for answer in together] == [answer.data for answer in alone]
    assert data(together[6])["scores"] == [6.0, 12.0, 50.0]


async def test_a_graph_without_a_batch_axis_runs_one_after_another(tmp_path: Path) -> None:
    per_image = model([node("ReduceMean", "x", "y", axes=[0, 1], keepdims=0)], [("x", "float32", [4, 4, 3])],
                      [("y", "float32", [3])])  # fmt: skip
    folder = folder_of(tmp_path, f'kind = "image-to-scores"\n{SMALL}layout = "HWC"\n', per_image)

    answers = await served(folder, [flat(n, n + 1, 9) for n in range(5)])

    assert [data(answer)["scores"] for answer in answers] == [[n, n + 1, 9] for n in range(5)]


async def test_a_graph_that_mixes_the_images_of_a_batch_is_given_one_at_a_time(tmp_path: Path) -> None:
    mixing = model(
        [*MEANS, node("ReduceMean", "y", "all", axes=[0]), node("Sub", "y all", "z"), node("Add", "z y", "mixed")],
        [("x", "float32", ["n", 3, 4, 4])],
        [("mixed", "float32", ["n", 3])],
    )
    folder = folder_of(tmp_path, f'kind = "image-to-scores"\n{SMALL}', mixing)

    answers = await served(folder, [flat(n, n + 1, 9) for n in range(5)])

    assert loaded(folder, BATCHING).max_batch == 1
    assert [data(answer)["scores"] for answer in answers] == [[n, n + 1, 9] for n in range(5)]


async def test_the_shipped_upscaler_as_a_definition_gives_the_pixels_that_it_gives_as_a_class(tmp_path: Path) -> None:
    file = manifest()["superres-x4", "clean"]
    toml = 'kind = "image-to-image"\n[input]\nresize = "none"\ndtype = "uint8"\nlayout = "NHWC"\nrange = "0-255"\n'
    toml += f'[output]\nscale = 4\nrange = "0-255"\n[tiles]\nallowed = "supported"\noverlap_px = {file.overlap_px}\n'
    image = png(noise(90, 150, channels=4))

    (ours,) = await served(folder_of(tmp_path, toml, file.read()), [image], ALONE)

    shipped = SuperResolution(LimitSettings())
    shipped.load_model(ALONE)
    theirs = answered(shipped, image, {"variant": "clean", "alpha": "bicubic"})
    assert (pixels(ours) == pixels(theirs)).all()
