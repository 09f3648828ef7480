"""Mutations of one file of a folder, resealed in most cases, so that checks beyond the checksum are reached."""

import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.helpers.mutations import mutate_bytes, mutate_json, mutate_safetensors_header, reseal
from tests.helpers.table_mutations import mutate_table, mutate_tensors


def mutate_file(random: Random, file: Path) -> str:
    """Alter a file as bytes, or as what its suffix says that it is; returns what was done."""
    if random.random() < 0.15:
        file.write_bytes(mutate_bytes(random, file.read_bytes()))
        return f"bytes of {file.name}"
    if file.suffix == ".parquet":
        _mutate_parquet(random, file)
    elif file.suffix == ".safetensors":
        _mutate_safetensors(random, file)
    else:
        file.write_text(mutate_json(random, json.loads(file.read_bytes())), encoding="utf-8")
    return f"content of {file.name}"


def mutate_sealed_folder(random: Random, folder: Path, seal_name: str) -> str:
    """Alter one or two files of a sealed folder, or remove one, and seal it again in nine of ten cases."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".md")
    done = []
    for _ in range(random.choice([1, 1, 1, 2])):
        file = random.choice(files)
        if random.random() < 0.02:
            file.unlink(missing_ok=True)
            done.append(f"{file.name} removed")
        elif file.exists():
            done.append(_try_mutation(random, file))
    how = random.random()
    if how < 0.9 and (folder / seal_name).exists():
        reseal(folder / seal_name, only_itself=how < 0.1)
        done.append("resealed")
    return ", ".join(done)


def _try_mutation(random: Random, file: Path) -> str:
    """Alter a file; as bytes where a first mutation left nothing that can be parsed for a second one."""
    try:
        return mutate_file(random, file)
    except (ValueError, OSError, RecursionError, SafetensorError, pa.ArrowException):
        file.write_bytes(mutate_bytes(random, file.read_bytes()))
        return f"bytes of {file.name}"


def _mutate_parquet(random: Random, file: Path) -> None:
    table = mutate_table(random, pq.read_table(file, memory_map=False))
    compression = random.choice(["zstd", "none", "snappy"])
    pq.write_table(table, file, compression=compression, row_group_size=random.choice([1, 1_000_000]))


def _mutate_safetensors(random: Random, file: Path) -> None:
    if random.random() < 0.4:
        file.write_bytes(mutate_safetensors_header(random, file.read_bytes()))
    else:
        save_file(mutate_tensors(random, load_file(file)), file)
