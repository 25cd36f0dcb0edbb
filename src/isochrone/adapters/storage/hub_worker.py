"""Runs as a child process: `hub_worker OWNER/REPO FILE REVISION FOLDER`. The revision may be empty.

Prints the file's size as a line of JSON, downloads it, and exits 0; or says on stderr in one line why not.
"""

import json
import sys

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


def main(argv: list[str]) -> int:
    """Download one file; the exit status."""
    repo, file, revision, folder = argv
    try:
        announced = hf_hub_download(repo, file, revision=revision or None, local_dir=folder, dry_run=True)
        sys.stdout.write(json.dumps({"size_bytes": announced.file_size}) + "\n")
        sys.stdout.flush()
        hf_hub_download(repo, file, revision=revision or None, local_dir=folder)
    except (HfHubHTTPError, OSError, ValueError) as error:
        sys.stderr.write(f"\n{_advice(error)}\n")
        return 1
    return 0


def _advice(error: Exception) -> str:
    """What went wrong, in one line."""
    match error:
        case GatedRepoError():
            return "access to the repository must be granted first: ask for it on its page and set HF_TOKEN"
        case RepositoryNotFoundError():
            return "there is no such repository, or it is private: check its name and set HF_TOKEN"
        case RevisionNotFoundError():
            return "there is no such revision: check what follows the @"
        case LocalEntryNotFoundError():
            return "the hub can't be reached: check the network and HF_ENDPOINT"
        case EntryNotFoundError():
            return "there is no such file in the repository: check its name"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
