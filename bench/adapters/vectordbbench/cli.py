"""saccade for VectorDBBench: copied to vectordb_bench/backend/clients/saccade/cli.py."""

from typing import Annotated, Unpack

import click
from vectordb_bench.backend.clients import DB
from vectordb_bench.cli.cli import CommonTypedDict, cli, click_parameter_decorators_from_typed_dict, run


class SaccadeTypedDict(CommonTypedDict):
    folder: Annotated[str, click.option("--folder", default="/tmp/vectordb_bench/saccade", help="of vectors and index")]
    spec: Annotated[str, click.option("--spec", default="auto", help="as in FAISS's index factory, or auto")]
    recall: Annotated[float, click.option("--recall", type=float, default=0.95, help="to ask for; 0: by --nprobe")]
    nprobe: Annotated[int, click.option("--nprobe", type=int, default=0, help="lists to look into")]
    depth: Annotated[int, click.option("--depth", type=int, default=0, help="candidates to re-rank")]


@cli.command()
@click_parameter_decorators_from_typed_dict(SaccadeTypedDict)
def Saccade(**parameters: Unpack[SaccadeTypedDict]):
    from .config import SaccadeConfig, SaccadeIndexConfig

    case = {name: parameters[name] for name in ("spec", "recall", "nprobe", "depth")}
    run(
        db=DB.Saccade,
        db_config=SaccadeConfig(db_label=parameters["db_label"], folder=parameters["folder"]),
        db_case_config=SaccadeIndexConfig(**case),
        **parameters,
    )
