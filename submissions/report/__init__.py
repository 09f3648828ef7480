"""The HTML report of a run and the other pages that draw tasks."""
