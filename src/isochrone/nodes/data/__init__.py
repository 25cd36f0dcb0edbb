"""Data nodes bring inference next to data. Empty until the first of them lands."""
