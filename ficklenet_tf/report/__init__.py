"""A run as a person sees it: one self-contained HTML page, and one picture."""

from ficklenet_tf.report.page import write_report
from ficklenet_tf.report.sheet import write_picture

__all__ = ["write_picture", "write_report"]
