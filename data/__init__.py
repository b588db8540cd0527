"""The data sets of the recipes: one small module each, from its source's layout to verl's parquet schema."""
