"""Evaluation of trackers over sequences: scores, result files, parallel runs, tables, figures."""
