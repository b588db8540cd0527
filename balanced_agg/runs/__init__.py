"""Reading what verl's runs leave behind."""
