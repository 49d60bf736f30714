"""The page at ``/``: files for a browser, served as they lie here. They know the routes of jobs and models, no more."""
