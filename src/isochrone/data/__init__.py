"""Small tables that ship with the package; `ATTRIBUTION.md` says whose they are."""
