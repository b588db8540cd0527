"""The data sets of the recipes, from the layouts of their sources to verl's parquet schema."""
