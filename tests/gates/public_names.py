"""The public names of calepin. To renew the list: ``python tests/gates/public_names.py``."""

from pathlib import Path

import source

LIST = Path(__file__).with_suffix(".txt")


def public_names() -> list[str]:
    """Return all public names, dotted and sorted: ``calepin.operators.Dense``."""
    return sorted(
        f"{module.name}.{name}"
        for module in source.modules().values()
        if source.is_public(module.name)
        for name in source.exports(module)
    )


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n")
