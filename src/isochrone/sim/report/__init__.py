"""The report: one page of HTML that tells what the runs of a folder found, with its pictures.

Here live the page (`report`, with `template.html`), its pictures (`pictures`) and their way into files
(`album`). Nothing here finds anything out: that is `isochrone.sim.results`.
"""

from isochrone.sim.report.report import REPORT_FILE, ReportWords, write_report

__all__ = ["REPORT_FILE", "ReportWords", "write_report"]
