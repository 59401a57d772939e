"""A task's rows over the global batch: each device computes its own.

All of it runs under `jax.shard_map`: what passes between devices is written down here and in the
models' batch norms. Under plain jit the FFT would gather the batch (jax issue 15680), and a split
parameter could split the activations instead.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from clapjax.tasks.task import Setting, Task
from clapjax.training.mesh import BATCH_AXES, BATCH_SPEC, batch_sharding, replicated, split_axis


def make_rows(task: Task, setting: Setting, specs: dict, parts: int = 1) -> Callable[..., tuple]:
    """The task's rows as one function of global arrays.

    With micro-batches (GradCache: Gao et al., arXiv 2101.06983) each device runs through its rows
    in so many parts, keeps nothing of them but their outputs, and computes a part again when its
    gradient is due. Group g of rows that stay together, with most tasks a row, belongs to part g
    modulo their number, on any mesh. A part has random numbers of its own, the same ones when it is
    computed again. Its batch norms take the statistics of the part, over all devices; the running
    ones move by the mean over the parts. What a task computes beside its rows sees all of a
    device's at once.

    Args:
      task: what is computed.
      setting: where, and how.
      specs: PartitionSpecs of the parameters.
      parts: micro-batches.

    Returns:
      A function of (params, batch_stats, batch, keys) to (rows, next batch_stats), as `Task.rows`.
    """
    mesh = setting.mesh

    def local(params: dict, batch_stats: dict, batch: dict, keys: jax.Array) -> tuple[dict, dict]:
        if mesh.size > 1:
            params = jax.tree.map(_whole, params, specs)
            keys = jax.vmap(jax.random.fold_in, (0, None))(keys, lax.axis_index(BATCH_AXES))
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, stats = in_parts(variables, batch, keys)
        if task.beside is not None:
            outputs = outputs | task.beside(variables, batch, keys, setting)
        return outputs, stats

    def in_parts(variables: dict, batch: dict, keys: jax.Array) -> tuple[dict, dict]:
        if parts == 1:
            return task.rows(variables, batch, keys, setting)
        groups = len(batch["audio"]) // task.group

        def visit(_, index):
            at = index + parts * jnp.arange(groups // parts)
            taken = jax.tree.map(lambda x: _take(x, groups, at), batch)
            part_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
            return None, task.rows(variables, taken, part_keys, setting)

        # What is kept of a part is its number; in a loop nothing can merge the two computations.
        visit = jax.checkpoint(visit, prevent_cse=False)
        _, (outputs, stats) = lax.scan(visit, None, jnp.arange(parts))
        outputs = jax.tree.map(lambda x: _in_order(x, groups), outputs)
        return outputs, jax.tree.map(lambda x: x.mean(axis=0), stats)

    if mesh.size == 1:
        return local
    return jax.shard_map(
        local, mesh=mesh, in_specs=(specs, P(), BATCH_SPEC, P()), out_specs=(BATCH_SPEC, P())
    )


def _take(x: jax.Array, groups: int, at: jax.Array) -> jax.Array:
    """Some of the groups that (n, ...) has, each of n / groups rows."""
    taken = jnp.take(x.reshape(groups, -1, *x.shape[1:]), at, axis=0, mode="clip")
    return taken.reshape(-1, *x.shape[1:])


def _in_order(x: jax.Array, groups: int) -> jax.Array:
    """(parts, n / parts, ...) with group g in part g modulo parts, to (n, ...)."""
    parts, rest = x.shape[0], x.shape[2:]
    return x.reshape(parts, groups // parts, -1, *rest).swapaxes(0, 1).reshape(-1, *rest)


def make_forward(task: Task, setting: Setting, specs: dict) -> Mapping[str, Callable]:
    """The functions of `Task.forward` over a mesh, for parameters that are split as `specs`.

    Each is compiled once for each shape. A row's result does not depend on the mesh, bit for bit,
    where each device is given the same number of rows.

    Returns:
      {name: function of (variables, *numpy arrays (N, ...), the same on all processes, any N) to
      (N, ...), which every process has in full}.
    """
    mesh = setting.mesh

    def compiled(function: Callable) -> Callable:
        def local(params: dict, batch_stats: dict, arrays: tuple) -> jax.Array:
            if mesh.size > 1:
                params = jax.tree.map(_whole, params, specs)
            variables = {"params": params, "batch_stats": batch_stats}
            return function(variables, *arrays, setting)

        if mesh.size > 1:
            local = jax.shard_map(
                local, mesh=mesh, in_specs=(specs, P(), BATCH_SPEC), out_specs=BATCH_SPEC
            )
        run = jax.jit(local, out_shardings=replicated(mesh))

        def call(variables: dict, *arrays: np.ndarray) -> jax.Array | np.ndarray:
            count = len(arrays[0])
            rows = np.minimum(np.arange(-(-count // mesh.size) * mesh.size), count - 1)
            placed = tuple(_place(np.asarray(x)[rows], batch_sharding(mesh)) for x in arrays)
            found = run(variables["params"], variables["batch_stats"], placed)
            if len(rows) == count:
                return found
            return jax.tree.map(lambda x: np.asarray(x)[:count], found)

        return call

    return {name: compiled(function) for name, function in task.forward.items()}


def _place(rows: np.ndarray, sharding: jax.sharding.NamedSharding) -> jax.Array:
    """A global array of rows that every process has."""
    return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])


def _whole(x: jax.Array, spec: P) -> jax.Array:
    """A parameter as every device needs it, in full.

    Declared as different on each device, so that its gradient is summed up locally, over layers and
    micro-batches, and reduced once at the end: by a reduce-scatter where the parameter is split.
    """
    axis = split_axis(spec)
    if axis is None:
        return lax.pcast(x, BATCH_AXES, to="varying")
    # In this order the gradient is scattered over one axis before it is reduced over the other.
    return lax.all_gather(lax.pcast(x, "data", to="varying"), "fsdp", axis=axis, tiled=True)
