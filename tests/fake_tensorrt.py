"""A stand-in for ONNX Runtime with TensorRT: it keeps engines as TensorRT does, and answers on the processor."""

from pathlib import Path
from types import SimpleNamespace

import onnxruntime

NAME = "TensorrtExecutionProvider"


class Runtime:
    """The onnxruntime module as far as it is used. `taken` is what runs the graph's parts, `fail` raises on opening."""

    __version__ = "1.31.1"
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self):
        self.opened, self.compiled, self.runs = [], [], []
        self.taken, self.running = [NAME], [NAME, "CUDAExecutionProvider", "CPUExecutionProvider"]
        self.fail, self.fail_run = lambda options: None, lambda: None

    def InferenceSession(self, model, sess_options, providers, enable_fallback):  # noqa: N802  # ONNX Runtime's name
        assert enable_fallback == 0
        (name, options), (second, cuda) = providers
        assert (name, second) == (NAME, "CUDAExecutionProvider")
        assert cuda == {"device_id": options["device_id"], "use_tf32": "0"}
        self.opened.append(options)
        self.fail(options)
        self._keep(options)
        real = onnxruntime.InferenceSession(model, sess_options, providers=["CPUExecutionProvider"])

        def run(names, fed):
            self.fail_run()
            self.runs.append((options["device_id"], fed["ids"].shape))
            assert _within(fed["ids"].shape, options)
            return real.run(names, fed)

        return SimpleNamespace(
            run=run,
            get_outputs=real.get_outputs,
            get_providers=lambda: self.running,
            get_provider_graph_assignment_info=lambda: [SimpleNamespace(ep_name=name) for name in self.taken],
        )

    def _keep(self, options):
        if options["trt_engine_cache_enable"] != "True":
            self.compiled.append(options)
            return
        engine = Path(options["trt_engine_cache_path"]) / f"TRTKernel_{options['trt_profile_max_shapes']}_sm90.engine"
        if engine.is_file():
            if engine.read_bytes() != b"engine":
                raise RuntimeError(f"TensorRT EP could not deserialize engine from cache: {engine}")
            return
        timing = Path(options["trt_timing_cache_path"]) / "TensorrtExecutionProvider_cache_sm90.timing"
        if timing.is_file() and timing.read_bytes() != b"timing":
            raise RuntimeError(f"TensorRT EP could not create timing cache: {timing}")
        self.compiled.append(options)
        engine.write_bytes(b"engine")
        timing.write_bytes(b"timing")


def _within(shape, options):
    least, most = (
        [int(size) for size in options[f"trt_profile_{which}_shapes"].split(",")[0].partition(":")[2].split("x")]
        for which in ("min", "max")
    )
    return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))
