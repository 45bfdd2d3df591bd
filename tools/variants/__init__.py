"""How the variants of superres-x4 do on real photos, in figures and in pictures."""
