"""Reading finished runs and comparing their aggregations: tables, pictures, a report. See command.py."""
