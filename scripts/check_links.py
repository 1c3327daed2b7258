"""Every relative link and picture in the Markdown files leads to a file of the repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def broken_links(root: Path, files: list[Path]) -> list[str]:
    """One line for each link that leads nowhere."""
    found = []
    for file in files:
        for number, line in enumerate((root / file).read_text(encoding="utf-8").splitlines(), 1):
            for target in _LINK.findall(line):
                place = target.partition("#")[0]
                if place and "://" not in place and not (root / file).parent.joinpath(place).exists():
                    found.append(f"{file}:{number}: {target} leads nowhere")
    return found


def main() -> int:
    """Check the Markdown files that git knows."""
    root = Path(__file__).parents[1]
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=root, capture_output=True, text=True, check=True).stdout
    found = broken_links(root, [Path(line) for line in listed.splitlines()])
    print("\n".join(found) or f"links: {len(listed.splitlines())} Markdown files, none broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
