"""Every error a user can cause or meet. Each says what, got, wanted, and what to do, in one line.

SegdecError
├── ConfigError           a setting, an option or a TOML file; lists every mistake at once
├── DataError             a data set, a split, a spec string
│   ├── PictureError      a picture that cannot be read or has an unusable form
│   └── MaskError         a mask that cannot be read or does not fit its picture
├── ModelError            the network's own limits
│   ├── SizeError         an input size the network cannot take; names the nearest legal one
│   └── CheckpointError   a checkpoint that is missing, corrupt or of another network
├── TrainingError         training cannot start or go on
│   ├── DivergedError     the loss became NaN or exploded; names the setting to lower
│   └── PeerStopped       another process of this training failed, and tells its reason itself
├── BundleError           a bundle that is missing, corrupt or not what its meta.json says
├── ExportError           a checkpoint that could not be turned into a faithful bundle
├── EngineError           a TensorRT engine that could not be built
├── GateError             a step's result that lost more accuracy than was allowed; the old bundle stays
├── QuantizeError         a bundle that cannot be brought to the precision asked for
│   └── CalibrationError  a manifest or cache that is missing, changed, too small or of another network
├── BackendError          a runtime that is missing or failed
├── RecipeError           a recipe that cannot be swapped in; the one that runs goes on
├── CameraError
│   ├── CameraLost        the source is gone; the station must rebuild the camera
│   ├── CameraIdle        nothing was due in the time given, nothing is wrong: read again
│   ├── FrameLost         one trigger without a usable picture: that part is UNKNOWN
│   └── EndOfStream       a finite source has delivered its last frame
├── OutputError           a ledger, archive or protocol sink that refused a verdict
│   └── LedgerFull        no room for the ledger's next row; it goes on once there is
└── StorageError          a file that could not be written whole (disk full, no permission)

Only the CLI catches SegdecError; anything else is a bug and keeps its traceback.
"""


class SegdecError(Exception):
    """Root of all errors that are not bugs."""


class ConfigError(SegdecError):
    pass


class DataError(SegdecError):
    pass


class PictureError(DataError):
    pass


class MaskError(DataError):
    pass


class ModelError(SegdecError):
    pass


class SizeError(ModelError):
    pass


class CheckpointError(ModelError):
    pass


class TrainingError(SegdecError):
    pass


class DivergedError(TrainingError):
    pass


class PeerStopped(TrainingError):
    """One line for whoever reads this process alone; the command line leaves the telling to the one that failed."""

    def __init__(self) -> None:
        super().__init__("another process of this training stopped; its message says why.")


class BundleError(SegdecError):
    pass


class ExportError(SegdecError):
    pass


class EngineError(SegdecError):
    pass


class GateError(SegdecError):
    pass


class QuantizeError(SegdecError):
    pass


class CalibrationError(QuantizeError):
    pass


class BackendError(SegdecError):
    pass


class RecipeError(SegdecError):
    pass


class CameraError(SegdecError):
    pass


class CameraLost(CameraError):
    pass


class CameraIdle(CameraError):
    pass


class FrameLost(CameraError):
    """One trigger that brought no usable picture.

    sequence: the trigger's number at this camera; source: file or stream it came from; captured_ns: wall clock in ns.
    """

    def __init__(self, message: str, *, sequence: int, source: str, captured_ns: int) -> None:
        super().__init__(message)
        self.sequence = sequence
        self.source = source
        self.captured_ns = captured_ns


class EndOfStream(CameraError):
    pass


class OutputError(SegdecError):
    pass


class LedgerFull(OutputError):
    pass


class StorageError(SegdecError):
    pass
