"""The ten checks in the order in which they run, with their limits and the sentences about their figures."""

from typing import NamedTuple


class GpuCheck(NamedTuple):
    """One check. It may take `limit_s` seconds; `sentences` tell its figures to a person."""

    name: str
    question: str
    limit_s: int
    sentences: tuple[str, ...]


CHECKS: dict[str, GpuCheck] = {
    check.name: check
    for check in (
        GpuCheck(
            "who",
            "Which card is this, and can what is installed use it?",
            40,
            (
                "nvidia-smi answers in {nvidia_smi_s:.1f} s",
                "PCIe generation {pcie_generation:.0f}, {pcie_lanes:.0f} lanes, at most {power_limit_w:.0f} W",
                "the driver serves CUDA {driver_cuda}, the libraries are CUDA {cuda} and cuDNN {cudnn}",
                "{memory_free_mib} of {memory_total_mib} MiB free",
                "a small model loads in {load_s:.1f} s and runs in {run_ms:.1f} ms by {provider}",
            ),
        ),
        GpuCheck(
            "right",
            "Does the card compute what the CPU computes?",
            75,
            (
                "largest differences from the CPU, of 255: general {worst_general_levels:.0f}, "
                "general in fp32 {worst_general_fp32_levels:.0f}, clean {worst_clean_levels:.0f}",
                "scores differ by at most {worst_nima_score:.4f}",
                "general runs in {general_arithmetic}",
            ),
        ),
        GpuCheck(
            "tensor-cores",
            "Is fp16 as fast as the tensor cores make it?",
            50,
            (
                "general, {tiles} × {side_px}²: {fp16_ms:.1f} ms in fp16, {fp32_ms:.1f} ms in fp32, "
                "{fp16_speedup:.1f} times as fast",
                "{fp16_mpx_per_s:.1f} Mpx/s of input, {fp16_tflops:.1f} TFLOP/s",
                "estimated for this card: {least_mpx_per_s:g} to {most_mpx_per_s:g} Mpx/s",
                "under this load {load_clock_mhz:.0f} of {most_clock_mhz:.0f} MHz, {load_temperature_c:.0f} °C, "
                "{load_power_w:.0f} W",
                "clean: {clean_mpx_per_s:.1f} Mpx/s",
            ),
        ),
        GpuCheck(
            "switch",
            "What does it cost to change the shape of the batch?",
            55,
            (
                "one change costs {general_batch_switch_ms:.2f} ms (another batch), "
                "{general_side_switch_ms:.2f} ms (another tile) of {general_batch_run_ms:.1f} ms a run",
                "clean {clean_batch_switch_ms:.2f} ms, scores {nima_batch_switch_ms:.2f} ms",
            ),
        ),
        GpuCheck(
            "options",
            "Which options of the runtime are fastest here?",
            85,
            (
                "as shipped: general {general_default_ms:.1f} ms, clean {clean_default_ms:.1f} ms, "
                "scores {nima_default_ms:.1f} ms",
                "general is faster with {general_best}: {general_best_ms:.1f} ms",
                "clean is faster with {clean_best}: {clean_best_ms:.1f} ms",
                "scores are faster with {nima_best}: {nima_best_ms:.1f} ms",
            ),
        ),
        GpuCheck(
            "arena",
            "How much of its memory do the models take?",
            80,
            (
                "models load and warm up in {start_s:.1f} s and then hold {held_mib:.0f} MiB "
                "of a limit of {limit_mib:.0f}; {free_mib:.0f} MiB stay free",
            ),
        ),
        GpuCheck(
            "copies",
            "How fast do results come back?",
            40,
            (
                "{down_mib:.0f} MiB of results come down in {copy_ms:.1f} ms, {copy_gb_per_s:.1f} GB/s",
                "a batch takes {run_ms:.1f} ms (at first {first_run_ms:.0f}), beside another {two_in_flight_ms:.1f} ms",
                "{locked_mib:.0f} MiB of the host are page-locked",
            ),
        ),
        GpuCheck(
            "stages",
            "Does the host keep up with the card?",
            40,
            (
                "a batch, in ms: cut {cut_ms:.1f}, device {compute_ms:.1f}, "
                "copy {copy_ms:.1f}, take in {take_in_ms:.1f} of one thread",
                "with {images} images in flight the device computes {busy_percent:.0f} % of the time",
                "a result of {result_mpx:.1f} MP: png {png_ms:.0f} ms, jpeg {jpeg_ms:.0f} ms of a core",
            ),
        ),
        GpuCheck(
            "stop",
            "How soon is the card free when a task is canceled?",
            25,
            (
                "a canceled task leaves the device after {cancel_ms:.0f} ms, where a batch takes {batch_ms:.0f} ms; "
                "a run counts as stuck after {stuck_s:.0f} s",
            ),
        ),
        GpuCheck(
            "start",
            "Does the whole server start, serve, and stop?",
            105,
            (
                "ready in {ready_s:.1f} s, a photo of {photo_mpx:.2f} MP in {second_task_ms:.0f} ms "
                "(the first {first_task_ms:.0f}), stopped in {stop_s:.1f} s",
                "the worker has {worker_threads} threads and {worker_resident_mib:.0f} MiB, "
                "{worker_shared_mib:.0f} of them shared",
            ),
        ),
    )
}

ALL_WITHIN_S = sum(check.limit_s for check in CHECKS.values())
"""Longest time of all checks together, less what is spent between them."""
