"""Every way scgpt-infer can fail, in one tree.

ScgptInferError
├── InputError                 what the user gave; exit code 2
│   ├── CellsError             the file or matrix of cells
│   ├── GenesError             gene names that do not fit the vocabulary
│   ├── CheckpointError        a scGPT checkpoint that cannot be read as one
│   ├── BundleError            a bundle that cannot be opened
│   │   ├── BundleChangedError     a file of it is missing or not the one that was sealed
│   │   └── BundleTooNewError      its format is newer than this runtime
│   ├── ReferenceIndexError    an index of reference cells that cannot be opened
│   │   ├── ReferenceChangedError  a file of it is missing or not the one that was written
│   │   ├── ReferenceMismatchError its vectors are not those of this model
│   │   └── ReferenceTooNewError   its format is newer than this scgpt-infer
│   ├── OptionError            an option, or two that do not go together
│   └── OutputError            the result cannot be written there
├── MissingDependencyError     a package that an extra installs is not there; exit code 2
├── ProviderError              an execution provider or precision cannot be had; exit code 2
│   └── DeviceError            a device failed at its work; exit code 3
│       ├── DeviceMemoryError      a batch does not fit into its memory
│       └── DeviceLostError        a GPU stopped working
├── WorkerError                workers are lost again and again; exit code 3
├── ParityError                a figure is outside its limit; exit code 3
└── InternalError              only we can cause it; exit code 1

A message says what was found, what was expected and what to do next.
"""

__all__ = [
    "BundleChangedError",
    "BundleError",
    "BundleTooNewError",
    "CellsError",
    "CheckpointError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "GenesError",
    "InputError",
    "InternalError",
    "MissingDependencyError",
    "OptionError",
    "OutputError",
    "ParityError",
    "ProviderError",
    "ReferenceChangedError",
    "ReferenceIndexError",
    "ReferenceMismatchError",
    "ReferenceTooNewError",
    "ScgptInferError",
    "WorkerError",
]


class ScgptInferError(Exception):
    """Root of all errors that scgpt-infer raises on purpose.

    Attributes
    ----------
    exit_code
        What the command line exits with when this error ends a command.
    """

    exit_code: int = 1


class InputError(ScgptInferError):
    """What the user gave cannot be used."""

    exit_code = 2


class CellsError(InputError):
    """The file or matrix of cells cannot be read, or holds nothing to embed."""


class GenesError(InputError):
    """The gene names do not fit the vocabulary of the model."""


class CheckpointError(InputError):
    """The folder or file is not a scGPT checkpoint that can be loaded whole."""


class BundleError(InputError):
    """The folder or zip is not a bundle that can be opened."""


class BundleChangedError(BundleError):
    """A file of the bundle is missing, or is not the one that was sealed."""


class BundleTooNewError(BundleError):
    """The bundle's format number is newer than this runtime reads."""


class ReferenceIndexError(InputError):
    """The folder is not an index of reference cells that can be opened."""


class ReferenceChangedError(ReferenceIndexError):
    """A file of the index is missing, or is not the one that was written."""


class ReferenceMismatchError(ReferenceIndexError):
    """The vectors of the index were not made as those of this model are, so they cannot be compared."""


class ReferenceTooNewError(ReferenceIndexError):
    """The index's format number is newer than this scgpt-infer reads."""


class OptionError(InputError):
    """An option has a value that cannot be used, or two do not go together."""


class OutputError(InputError):
    """The result cannot be written where it was asked for."""


class MissingDependencyError(ScgptInferError):
    """A package that one of the extras installs is not there."""

    exit_code = 2


class ProviderError(ScgptInferError):
    """The execution provider or precision that was asked for cannot be had."""

    exit_code = 2


class DeviceError(ProviderError):
    """A device failed at its work.

    Attributes
    ----------
    finished
        What was done before, where it was not written to a file: for `scgpt_infer.embed` an AnnData.
    """

    exit_code = 3
    finished: object = None


class DeviceMemoryError(DeviceError):
    """A batch does not fit into the memory of its device."""


class DeviceLostError(DeviceError):
    """A GPU stopped working while it was used; the process cannot use it again."""


class WorkerError(ScgptInferError):
    """Workers of a job are lost again and again: killed, out of memory, or crashed; what is done is kept."""

    exit_code = 3


class ParityError(ScgptInferError):
    """A measured difference to the reference is outside its limit."""

    exit_code = 3


class InternalError(ScgptInferError):
    """Something that only scgpt-infer itself can cause."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} This is a bug in scgpt-infer: please report it.")
