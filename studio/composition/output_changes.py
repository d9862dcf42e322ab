"""Changes of layers' outputs, which no merged weight can have: they act beside the merged weights in generation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.injection import add_convolved, change_output
from studio.adapters.prefix_tuning import PrefixTuning
from studio.composition.loaded_concept import LoadedConcept
from studio.layers.target_modules import Site
from studio.models.layer_strengths import Strength, strength_at
from studio.models.regions.attention import APPENDED, Appended


@dataclass(frozen=True)
class OutputChange:
    """A concept's adapter of one site's output, its strength there, and the concept's tokens."""

    site: Site
    adapter: Adapter
    strength: float
    tokens: tuple[str, ...]


def output_changes(concepts: Mapping[str, LoadedConcept], strengths: Mapping[str, Strength]) -> list[OutputChange]:
    """The changes of outputs of these concepts, in their order."""
    return [
        OutputChange(concept.kind_sites[site], adapter, strength_at(strengths[name], site), tuple(concept.tokens))
        for name, concept in concepts.items()
        for site, adapter in concept.output_adapters.items()
    ]


@contextmanager
def outputs_changed(changes: Sequence[OutputChange]) -> Iterator[None]:
    """While open, the layers that are at the sites now change their outputs, concept after concept."""
    with ExitStack() as undo:
        for change in changes:
            if change.site.role == "output":
                undo.callback(change_output(change.site, partial(_of_output, change)))
                continue
            layer = getattr(change.site.parent, change.site.attribute)
            undo.callback(layer.register_forward_hook(_hook(change)).remove)
            if isinstance(change.adapter, PrefixTuning) and change.strength:
                rows = Appended(change.adapter.num_appended, change.tokens)
                APPENDED.setdefault(layer, []).append(rows)
                undo.callback(APPENDED[layer].remove, rows)
        yield


def _of_output(change: OutputChange, output: Tensor) -> Tensor:
    return change.adapter.change_output(output, output, change.strength)


def _hook(change: OutputChange) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def changed(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            factors = change.adapter.factors(layer.weight.flatten(1), change.strength)
            assert factors is not None, "what changes a convolution's output has factors"
            return add_convolved(layer, output, inputs[0], change.adapter, factors)
        return change.adapter.change_output(output, inputs[0], change.strength)

    return changed


def refuse_unexportable(concepts: Mapping[str, LoadedConcept]) -> None:
    """Raises StudioError for concepts that change layers' outputs, but for one alone whose factors are a LoRA's."""
    alone = len(concepts) == 1 and all(
        (factors := adapter.factors(concept.kind_sites[site].weight)) is not None and factors.rank
        for concept in concepts.values()
        for site, adapter in concept.output_adapters.items()
    )
    if not alone:
        refuse_output_changes(concepts)


def refuse_output_changes(concepts: Mapping[str, LoadedConcept]) -> None:
    """Raises StudioError for a concept that changes layers' outputs, where only changes of weights can be kept."""
    for name, concept in concepts.items():
        if concept.output_adapters:
            raise StudioError(
                f"{name} was trained with {concept.adapter}, which changes layers' outputs and no weights. Generate "
                "with it instead: name it in the prompt of studio generate."
            )
