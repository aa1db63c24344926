"""Reports of a Result: terminal tables, an HTML page, a Perfetto trace, JSON."""

from pimloom.report.files import write_json
from pimloom.report.page import notebook_html, page_html, write_page
from pimloom.report.terminal import layers_table, summary_table
from pimloom.report.trace import write_trace

__all__ = ["layers_table", "notebook_html", "page_html", "summary_table", "write_json", "write_page", "write_trace"]
