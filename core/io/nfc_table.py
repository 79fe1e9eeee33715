"""Writes nfc_table.c: python3 core/io/nfc_table.py > core/io/nfc_table.c (needs nothing but Python)."""
import sys
import unicodedata as u

points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
decompositions = []
for c in points:
    d = u.decomposition(chr(c))
    if d and not d.startswith("<"):
        parts = [int(x, 16) for x in d.split()] + [0]
        composes = len(parts) == 3 and u.normalize("NFC", chr(c)) == chr(c)
        decompositions.append((c, parts[0], parts[1], int(composes)))
classes = []
for c in points:
    k = u.combining(chr(c))
    if k and classes and classes[-1][1] == c - 1 and classes[-1][2] == k:
        classes[-1][1] = c
    elif k:
        classes.append([c, c, k])


def table(rows):
    line = " "
    for row in rows:
        item = ",".join("0x%X" % v if len(row) > 1 else "%d" % v for v in row)
        item = " {" + item + "}," if len(row) > 1 else " " + item + ","
        if len(line) + len(item) > 148:
            print(line)
            line = " "
        line += item
    print(line)


print("/* nfc_table.c - made by nfc_table.py from the Unicode character database %s; do not edit. */" % u.unidata_version)
print('#include "io/nfc_table.h"\n')
print("const NfcDecomposition nfc_decompositions[] = {")
table(decompositions)
print("};\nconst int nfc_decomposition_count = %d;\n" % len(decompositions))
print("const NfcClass nfc_classes[] = {")
table(classes)
print("};\nconst int nfc_class_count = %d;\n" % len(classes))
pairs = sorted((d[1], d[2], i) for i, d in enumerate(decompositions) if d[3])
print("const uint16_t nfc_pairs[] = {")
table([p[2:] for p in pairs])
print("};\nconst int nfc_pair_count = %d;" % len(pairs))
print(len(decompositions), len(classes), file=sys.stderr)
