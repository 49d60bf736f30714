"""Build the cells that ship with the demo model, from the wheel of scanpy.

    pip download --no-deps scanpy==1.11.5
    python scripts/build_demo_cells.py scanpy-1.11.5-py3-none-any.whl [-o scgpt_infer/demo/cells.h5ad]

The wheel holds 700 labelled blood cells of Zheng et al. 2017 as logarithms of normalised counts. A cell's smallest
value above zero is one molecule, so the counts come back exactly. The same wheel gives the same cells.
"""

import argparse
import hashlib
import tempfile
import warnings
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

MEMBER = "scanpy/datasets/10x_pbmc68k_reduced.h5ad"
SHA256 = "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f"
FARTHEST = 0.2
"""How far from a whole number a recovered count may lie: float32 logarithms leave at most 0.12."""

ABOUT = {
    "source": "10x Genomics, fresh 68k PBMCs of donor A; Zheng et al., Nature Communications 8, 14049 (2017); "
    f"700 cells and 765 genes as packaged in scanpy 1.11.5, {MEMBER}",
    "licence": "BSD-3-Clause (scanpy)",
    "labels": "cell_type is scanpy's bulk_labels: the purified population that a cell correlates with best",
    "counts": "X holds molecule counts: expm1 of raw.X, divided by each cell's smallest unit and rounded",
}


def read(wheel: Path) -> anndata.AnnData:
    """The 700 cells as the wheel has them."""
    packed = zipfile.ZipFile(wheel).read(MEMBER)
    found = hashlib.sha256(packed).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{MEMBER} in {wheel} has sha256 {found}, expected {SHA256}: use scanpy 1.11.5.")
    with tempfile.NamedTemporaryFile(suffix=".h5ad") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old file: anndata tells where it moves things to
        file.write(packed)
        file.flush()
        return anndata.read_h5ad(file.name)


def counts(normalised: sp.csr_matrix) -> sp.csr_matrix:
    """Molecule counts behind log1p values that were normalised per cell."""
    whole = sp.csr_matrix(normalised, dtype=np.float64, copy=True)
    whole.data = np.expm1(whole.data)
    unit = np.repeat(
        [whole.data[a:b].min() for a, b in zip(whole.indptr, whole.indptr[1:], strict=False)], np.diff(whole.indptr)
    )
    ratio = whole.data / unit
    whole.data = np.round(ratio)
    if np.abs(ratio - whole.data).max() > FARTHEST:
        raise SystemExit("Some counts are no whole numbers: a cell without a single molecule of any gene?")
    return whole.astype(np.int32)


def build(wheel: Path) -> anndata.AnnData:
    """The cells as they ship: counts, cell types, origin and licence."""
    source = read(wheel)
    obs = pd.DataFrame({"cell_type": source.obs["bulk_labels"]}, index=pd.Index(source.obs_names, name="cell"))
    var = pd.DataFrame(index=pd.Index(source.raw.var_names, name="gene"))
    return anndata.AnnData(X=counts(source.raw.X), obs=obs, var=var, uns=ABOUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("scgpt_infer/demo/cells.h5ad"))
    options = parser.parse_args()
    cells = build(options.wheel)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    cells.write_h5ad(options.output, compression="gzip", compression_opts=9)
    print(f"{options.output}: {cells.n_obs} cells, {cells.n_vars} genes, {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
