"""Published files: fetched, checked against what is known of them, unpacked."""
