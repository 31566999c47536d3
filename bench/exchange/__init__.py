"""exchange: records in the forms that other tools read, and what is left out for strangers."""
