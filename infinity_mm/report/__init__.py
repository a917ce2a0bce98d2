"""The page `imm report` writes: `model` says what it shows, `page.render` turns that into one HTML text."""
