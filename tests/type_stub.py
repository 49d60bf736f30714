"""The public calls as a user writes them. Nothing runs here: mypy reads it, and complains where a type is wrong."""

from pathlib import Path

import numpy as np
from anndata import AnnData
from scipy import sparse

import scgpt_infer as si
from scgpt_infer.client import AsyncClient, Client, JobOptions, ReadOptions, Retry, ServerError
from scgpt_infer.compat import embed_data as original_embed_data
from scgpt_infer.compat import scGPT, scGPTConfig
from scgpt_infer.imputation import Imputed, ImputeOptions, impute_file
from scgpt_infer.integration import Integrated, IntegrateOptions, integrate_file
from scgpt_infer.networks import AttentionOptions, EmbeddingNetworkOptions, GeneNetwork
from scgpt_infer.perturbation import PerturbOptions, PerturbSummary, perturb_file
from scgpt_infer.preview import Preview
from scgpt_infer.summary import BadCell, Summary


def one_call(cells: AnnData) -> AnnData:
    return si.embed(cells, model="demo")


def a_path_and_options() -> AnnData:
    return si.embed(Path("cells.h5ad"), model=Path("human"), genes="alias", precision="fp16", seed=3, limit=100)


def several_files_as_one() -> Summary:
    return si.embed_file(["a.h5ad", Path("b.zarr")], "all.npy", "human")


def in_place(cells: AnnData) -> None:
    si.embed(cells, model="demo", inplace=True, key="X_other")


def many(samples: dict[str, AnnData]) -> dict[str, AnnData]:
    with si.Model.open("human", si.EmbedOptions(layer="counts", threads=4)) as model:
        vector_id: str = model.vector_id
        width: int = model.dim
        print(vector_id, width, model.key)
        return {name: model.embed(cells) for name, cells in samples.items()}


def a_file(progress: bool) -> Summary:
    def show(done: int, total: int) -> None:
        print(done, total)

    summary = si.embed_file(
        "cells.h5ad", "vectors.parquet", "human", si.EmbedOptions(obs_only=False), show if progress else None
    )
    bad: tuple[BadCell, ...] = summary.bad
    rate: float = summary.cells_per_second
    text: str = summary.to_json()
    print([cell.reason for cell in bad], rate, text)
    return summary


def into_the_file_itself() -> Summary:
    return si.embed_file("cells.h5ad", None, "human", si.EmbedOptions(in_place=True))


def a_look_before() -> float | None:
    with si.Model.open("human") as model:
        preview: Preview = model.preview("cells.h5ad", "out.h5ad")
    return preview.seconds


def networks(cells: AnnData) -> GeneNetwork:
    own = si.grn(model="demo", how=EmbeddingNetworkOptions(only=("CD3D", "CD3E"), threshold=0.2))
    lists: dict[str, tuple[str, ...]] = own.gene_lists
    print(lists, own.weight.dtype, own.directed)
    return si.grn(cells, model="human", how=AttentionOptions(("STAT1",), condition="stim", against="IFN"))


def what_went_wrong() -> int:
    try:
        si.embed_file("cells.h5ad", "out.h5ad", "human")
    except si.errors.GenesError as error:
        return error.exit_code
    except si.ScgptInferError as error:
        return error.exit_code
    return 0


def the_wrappers_calls(cells: AnnData) -> tuple[int, ...]:
    scgpt = scGPT(configurer=scGPTConfig(batch_size=10, emb_mode="cls", model="human"))
    dataset = scgpt.process_data(cells, gene_names="symbol", use_raw_counts=False)
    embeddings, genes = scgpt.get_embeddings(dataset, output_genes=True)
    print(len(dataset), genes[0])
    shape: tuple[int, ...] = embeddings.shape
    return shape


def the_originals_call(cells: AnnData) -> AnnData:
    return original_embed_data(cells, Path("human"), gene_col="index", obs_to_save=["batch"], return_new_adata=True)


def batches_into_one_space(cells: AnnData) -> AnnData:
    how = IntegrateOptions("donor", batch_map={"lane7": "day1"}, batch_fallback="day2", batch_statistics="first")
    return si.integrate(si.integrate(cells, model="tuned", batch="donor"), model="tuned", how=how, inplace=True)


def batches_of_a_file() -> str:
    found: Integrated = integrate_file("cells.h5ad", "out.h5ad", "tuned", IntegrateOptions("donor", label="cell_type"))
    return found.to_json() if found.scores is None else found.scores.report()


def values_of_genes(cells: AnnData) -> AnnData:
    return si.impute(cells, model="tuned", genes=["CD3D"], how=ImputeOptions(units="bins"), inplace=True)


def a_file_of_values() -> tuple[str, ...]:
    found: Imputed = impute_file("cells.h5ad", "values.json", "tuned", ["CD3D", "MS4A1"])
    return found.genes


def perturbed(control: AnnData) -> AnnData:
    return si.perturb(control, model="crispr", perturbations=["STAT1", "STAT1+IRF1"], control=("gene", "NT"))


def a_judged_file_of_perturbations() -> float | None:
    how = PerturbOptions(control=("gene", "NT"), truth="gene", cells=200, memory=8 * 2**30)
    found: PerturbSummary = perturb_file("screen.h5ad", "after.h5ad", "crispr", how, per_cell="cells.h5ad")
    return None if found.judgement is None else found.judgement.averages()["model"].pearson_change


def a_server(cells: AnnData) -> AnnData:
    with Client("http://localhost:8080", api_key="secret", timeout=30.0, retry=Retry(attempts=3)) as client:
        for rows in client.stream(cells, how=ReadOptions(layer="counts"), task="annotate"):
            print(rows.cells, rows.vectors.mean(axis=0), rows.columns["label"])
        client.embed(np.ones((2, 3)), ["CD3D", "LYZ", "NKG7"])
        client.embed(sparse.csr_matrix(np.ones((2, 3))), ["CD3D", "LYZ", "NKG7"])
        client.embed(["a.h5ad", Path("b.zarr")])
        try:
            return client.annotate([{"CD3D": 2.0}, {"LYZ": 1}], top=2, unknown_below=0.3)
        except ServerError as error:
            print(error.status, error.code, error.request_id)
        return client.embed([(["CD3D", "LYZ"], [2, 1.5])])


def a_servers_job() -> list[Path]:
    with Client("http://localhost:8080") as client:
        job = client.submit("cells.h5ad", JobOptions(task="embed", output="npy"))
        return client.fetch(client.wait(job.id, progress=lambda done, cells: print(done / cells)), "results")


async def an_awaited_server(cells: AnnData) -> AnnData:
    async with AsyncClient("http://localhost:8080", model="demo") as client:
        async for rows in client.stream(cells):
            print(rows.first_row, rows.reasons)
        print((await client.call("grn", cells, obs=["condition"], targets=["STAT1"]))["kind"])
        return await client.embed(cells, inplace=True)
