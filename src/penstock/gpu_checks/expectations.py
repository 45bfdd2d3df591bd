"""What the figures of the checks are held to, and where each number comes from.

A bound says that something is wrong, not how fast a card could be: it holds for every card that the runtime has code
for.
"""

from penstock.gpu_checks.verdicts import Expectation

ESTIMATES = {"T4": 5, "L4": 6, "A10": 9, "RTX 4090": 22, "H100": 55, "H200": 65}
"""Part of the name of a card -> megapixels of input a second that general should take there in fp16, the device alone:
arithmetic and traffic of its layers over the data sheets."""

ESTIMATE_FACTOR = 2.0
"""An estimate may be wrong by as much, either way."""


def estimate_for(card: str) -> tuple[float, float] | None:
    """The least and the most that is estimated for a card of this name; None where there is no estimate."""
    words = f" {card} ".replace("-", " ")
    return next((_around(estimate) for part, estimate in ESTIMATES.items() if f" {part} " in words), None)


def _around(estimate: float) -> tuple[float, float]:
    return estimate / ESTIMATE_FACTOR, estimate * ESTIMATE_FACTOR


EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation(
        check="who",
        figure="nvidia_smi_s",
        at_most=2.0,
        found="nvidia-smi took {value:.1f} s to answer",
        advice="switch persistence mode on: nvidia-smi -pm 1, or the service nvidia-persistenced",
        source="with persistence mode it answers in some tenths of a second; without, hosts of 8 cards took 25 to 40 s",
    ),
    Expectation(
        check="who",
        figure="provider",
        equal="CUDAExecutionProvider",
        otherwise="fail",
        found="the model ran by {value}",
        advice="install penstock-server[gpu] in an environment of its own",
        source="the only provider of a GPU worker, but for TensorRT, which is off by default",
    ),
    Expectation(
        check="who",
        figure="has_code",
        equal=True,
        otherwise="fail",
        found="the runtime has no machine code for compute capability {compute_capability}",
        advice="use a card with one of {code_for}",
        source="the wheel of onnxruntime-gpu 1.31.1 has machine code for these and no PTX",
    ),
    Expectation(
        check="who",
        figure="compute_mode",
        equal="Default",
        found="the compute mode is {value}: one process alone may use the card",
        advice="nvidia-smi -c DEFAULT, or give the card to Penstock alone",
        source="the driver's documentation: a second process fails with error 46",
    ),
    Expectation(
        check="who",
        figure="memory_free_share",
        at_least=0.9,
        found="only {memory_free_mib} of {memory_total_mib} MiB are free: somebody else uses the card",
        advice="stop the other program, or set worker.gpu_memory_bytes to Penstock's share",
        source="a context of CUDA takes 0.3 to 0.6 GB, 4 % of 16 GB",
    ),
    Expectation(
        check="who",
        figure="ecc_uncorrected_count",
        at_most=0,
        otherwise="fail",
        found="the card has counted {value:.0f} memory errors that ECC could not correct",
        advice="reset the card (nvidia-smi -r) or reboot; if they come again, have it replaced",
        source="any uncorrected error can be a wrong pixel",
    ),
    Expectation(
        check="right",
        figure="*_error",
        equal="",
        otherwise="fail",
        says_all=True,
        found="{name}: {value}",
        advice='update the driver; if only general fails, set worker.precision = "fp32"',
        source="a result with values that are no numbers is refused, as a task would be",
    ),
    Expectation(
        check="right",
        figure="*_photo_blank",
        equal=False,
        otherwise="fail",
        says_all=True,
        found="{name}: the card gave an image of one colour",
        advice='the card computes nothing: update the driver; if only general is blank, set worker.precision = "fp32"',
        source="a photo is never of one colour; some cards of the GTX 16 series gave zeros in fp16",
    ),
    Expectation(
        check="right",
        figure="general_fp32_photo_levels",
        at_most=32,
        otherwise="fail",
        says_all=True,
        found="{name}: {value:.0f} of 255 from the CPU: the card does not compute what it is told to",
        advice="update the driver and what penstock-server[gpu] has installed; if it stays so, the card is faulty",
        source="rounding, TF32 and fp16 change a photo by some levels at most",
    ),
    Expectation(
        check="right",
        figure="general_[!f]*_levels",
        at_most=3,
        otherwise="fail",
        found="{name}: {value:.0f} of 255 from the CPU",
        advice='set worker.precision = "fp32", and send us this report',
        source="fp16 emulated on a CPU: at most 1.7 of 255, the tolerance in the manifest is 2; one more by rounding",
    ),
    Expectation(
        check="right",
        figure="general_fp32_*_levels",
        at_most=1,
        otherwise="fail",
        found="{name}: {value:.0f} of 255 from the CPU",
        advice="do not serve from this card: send us this report",
        source="runtimes in fp32 stay within 0.00001 of 1; what is on the edge of rounding may fall either way",
    ),
    Expectation(
        check="right",
        figure="clean_photo_levels",
        at_most=1,
        otherwise="fail",
        found="{name}: {value:.0f} of 255 from the CPU",
        advice="do not serve from this card: send us this report",
        source="as for general in fp32",
    ),
    Expectation(
        check="right",
        figure="clean_[!p]*_levels",
        at_most=26,
        otherwise="fail",
        found="{name}: {value:.0f} of 255 from the CPU",
        advice="do not serve clean from this card: TF32 seems to be on",
        source="two orders of summation in fp32 are 0.07 of 1 apart on stripes; with TF32 it is up to 255 of 255",
    ),
    Expectation(
        check="right",
        figure="worst_nima_score",
        at_most=0.01,
        otherwise="fail",
        found="a score is {value:.3f} from that of the CPU",
        advice="do not serve from this card: send us this report",
        source="outputs of nima within 0.001, in a mean of ten ratings",
    ),
    Expectation(
        check="right",
        figure="general_arithmetic",
        equal="fp16",
        found="general runs in {value}, which is slower",
        advice="see why in the warnings of this check",
        source="every card with code in the wheel has fp16",
    ),
    Expectation(
        check="tensor-cores",
        figure="fp16_speedup",
        at_least=1.8,
        found="fp16 is only {value:.1f} times as fast as fp32",
        advice="the runtime has found no plans with tensor cores: send us this report",
        source="estimates: T4 3.3, A10 1.8, H100 4.6 times fp16 without tensor cores, which is no slower than fp32",
    ),
    Expectation(
        check="tensor-cores",
        figure="clock_share",
        at_least=0.6,
        found="under load the card runs at {load_clock_mhz:.0f} of {most_clock_mhz:.0f} MHz",
        advice="see why: nvidia-smi -q -d PERFORMANCE (heat, power, a limit that somebody set)",
        source="server cards hold 0.7 to 0.95 of their highest clock under load; a T4, which has 70 W, less",
    ),
    Expectation(
        check="tensor-cores",
        figure="share_of_estimate",
        at_least=1,
        found="that is {value:.2f} of the least that is estimated for this card",
        advice="look at heat and clocks (nvidia-smi -q -d PERFORMANCE), then send us this report",
        source="estimates from data sheets, for some cards, halved",
    ),
    Expectation(
        check="switch",
        figure="*_switch_ms",
        at_most=5.0,
        found="{name}: a change of shape costs {value:.1f} ms",
        advice="cuDNN's plans are made anew at each change of shape: send us this report",
        source="with a session for each shape no plan is made again (counted on stand-ins); else 20 to 50 ms each",
    ),
    Expectation(
        check="options",
        figure="*_gain_percent",
        at_most=15,
        found="{name}: other options are {value:.0f} % faster than those in use",
        advice="send us this report: the choice at the start should have found them",
        source="above the noise of medians of five runs",
    ),
    Expectation(
        check="arena",
        figure="held_mib",
        at_most=8192,
        found="the models hold {value:.0f} MiB",
        advice="set worker.max_batch = 4, or worker.gpu_memory_bytes",
        source="3.8 GB without the workspaces of cuDNN, after the warm-up on stand-ins",
    ),
    Expectation(
        check="arena",
        figure="free_mib",
        at_least=512,
        found="only {value:.0f} MiB of the card stay free",
        advice="set worker.gpu_memory_bytes below {limit_mib:.0f} MiB",
        source="the workspaces of cuDNN and a second context need some hundred MiB",
    ),
    Expectation(
        check="arena",
        figure="start_s",
        at_most=60,
        found="loading and warming up takes {value:.0f} s",
        advice="worker.start_s must be longer than that; the first start after an installation is the slowest",
        source="estimated 10 to 30 s on an H100, 30 to 60 s on a T4; a worker has worker.start_s = 180 s",
    ),
    Expectation(
        check="copies",
        figure="copy_gb_per_s",
        at_least=8.0,
        found="results come back at {value:.1f} GB/s",
        advice="look at the PCIe link (nvidia-smi -q), and at the limit of locked memory (ulimit -l)",
        source="page-locked 12 GB/s on PCIe 3 × 16, 25 on 4, 50 on 5; pageable 6 to 10",
    ),
    Expectation(
        check="stages",
        figure="busy_percent",
        at_least=80,
        found="the card computes only {value:.0f} % of the time while images wait for it",
        advice="give the worker more cores: tiles are cut and taken in on threads of the host",
        source="97.5 % in the simulation of an H100 with 16 cores",
    ),
    Expectation(
        check="stop",
        figure="cancel_excess_ms",
        at_most=250,
        found="a canceled task held the device {value:.0f} ms longer than two batches take",
        advice="send us this report; until then make batches smaller: worker.max_batch",
        source="at most the batch that runs and the one after it, and turns of the event loop",
    ),
    Expectation(
        check="stop",
        figure="device_is_lost",
        equal=False,
        otherwise="fail",
        found="the worker took the device for lost: the run did not stop within {stuck_s:.0f} s",
        advice="set worker.max_batch = 1, and send us this report",
        source="a run ends at the next node of its graph, or at its end",
    ),
    Expectation(
        check="start",
        figure="ready_s",
        at_most=60,
        found="ready only after {value:.0f} s",
        advice="see which model takes long: the figures that end with _load_s",
        source="estimated 10 to 30 s on an H100, 30 to 60 s on a T4; health checks allow 180 s",
    ),
    Expectation(
        check="start",
        figure="exit_status",
        equal=0,
        found="it ended with status {value}",
        advice="send us its log",
        source="0 after SIGTERM",
    ),
    Expectation(
        check="start",
        figure="worker_threads",
        at_most=400,
        found="the worker has {value} threads",
        advice="limit its cores, or the number of workers on this host",
        source="eight workers on 192 cores have at most 1,500 threads in all",
    ),
)
"""Bounds in the order of the checks. A figure that fits several patterns is held to each."""
