"""The paper's tables, comparisons and trials; not installed with the package."""
