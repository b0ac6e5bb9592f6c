"""``clipbias measure --protocol NAME --explain``: how a protocol differs from strict, and what that changes."""

from __future__ import annotations

import textwrap

_WIDTH = 110


def explain(name: str) -> int:
    """Print a preset: its source, every difference with its effect on a worked example, and what is not reproduced.

    Raises
    ------
    DataError
        No such preset.
    """
    from clipbias.instrument import recipe
    from clipbias.metrics.presets import differences, list_presets, load_preset

    base = recipe.load().protocol
    preset = load_preset(name)
    print(f"{preset.name}: {preset.title}\nSource: {preset.source}\nImages: {preset.images}")
    asked = preset.ask.model_dump(exclude_none=True)
    for key, value in asked.items():
        print(f"{key.capitalize()}: {', '.join(value) if isinstance(value, list) else value}")
    found = differences(preset, base)
    if not found:
        print("It makes the choices of tasks/measure.toml.")
    else:
        print(
            f"\n{len(found)} choices differ from strict. The worked example (made up: clipbias/metrics/worked_example.py)"
        )
        print("shows what each does alone; on real data the effect may be larger or smaller.\n")
    for difference in found:
        print(f"- {difference.choice} = {difference.study!r} (strict: {difference.base!r})")
        print(_wrapped(difference.says))
        shown = _effect(difference.choice, difference.study, base)
        if shown:
            print(_wrapped(shown))
    if preset.limits:
        print("\nNot known or not reproduced:\n")
        for limit in preset.limits:
            print(textwrap.fill(f"- {limit}", _WIDTH, subsequent_indent="  "))
    if name == "strict":
        print(f"\nOther protocols: {', '.join(p for p in list_presets() if p != 'strict')}.")
    print(f"\nHash of the protocol with this study's choices: {preset.protocol(base).hash}")
    return 0


def _effect(choice: str, study: object, base) -> str:
    from clipbias.metrics.worked_example import effect

    found = effect(choice, study, base)
    if found is None:
        return ""
    metric, before, after = found
    return f"Worked example: {metric} {before:.3f} -> {after:.3f}."


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")
