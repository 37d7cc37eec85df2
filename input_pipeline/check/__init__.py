"""What there is to say about a data set before anybody trains on it; `__main__.py` is its command.

run.py is the whole of it: images.py decodes every image once, findings.py counts and compares,
report.py prints and draws.
"""
