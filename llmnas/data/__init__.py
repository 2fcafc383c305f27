"""Data sets as arrays: `load` reads one, `split` divides it, `materialise` puts the parts on disk, `read` gets them.

Images are (N, C, H, W), sequences (N, C, L), labels int64 from 0. The test part lies in files of its own and can only
be read with a reason, which is written down. Nothing here imports torch.
"""

from llmnas.data.dataset import Dataset
from llmnas.data.load import NAMES, load
from llmnas.data.ref import DataRef, materialise, read, reads_of_test, reopen
from llmnas.data.split import Split, split

__all__ = ["NAMES", "DataRef", "Dataset", "Split", "load", "materialise", "read", "reads_of_test", "reopen", "split"]
