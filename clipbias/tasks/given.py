"""The data that a recipe names: the embedded world, or the user's own files."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from clipbias.tasks.recipe import TaskRecipe

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData


@functools.lru_cache(maxsize=4)
def _data(recipe: str) -> TaskData:
    read = TaskRecipe.model_validate_json(recipe)
    if not read.files.given:
        from clipbias.tasks.world import world_data

        world = read.world
        return world_data(
            read.task,
            n_train=world.n_train,
            n_val=world.n_val,
            crossed=world.crossed,
            seed=world.seed,
            **world.options,
        )
    from clipbias.tasks.files import from_files

    return from_files(read.task, **read.files.arguments)


def task_data(recipe: TaskRecipe) -> TaskData:
    """Return the data of a recipe; read once in a process, the same for every model and training seed.

    Raises
    ------
    DataError
        A file is missing or wrong, or the splits are.
    """
    return _data(recipe.model_dump_json(include={"task", "head", "world", "files", "competence"}))
