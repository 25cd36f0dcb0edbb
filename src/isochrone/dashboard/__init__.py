"""Read-only projections of what the gateway believes, for people. The web page will live here too."""

from isochrone.dashboard.status import status_fields, whole_status

__all__ = ["status_fields", "whole_status"]
