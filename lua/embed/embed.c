/* embed.c - build tool: writes files as one C table { name, text, bytes }.
 * usage: embed OUT.c FILE... */
#include <stdio.h>

static int emit(FILE *out, int index, const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return perror(path), 1;
  fprintf(out, "static const unsigned char file%d[] = {", index);
  int c;
  for (long n = 0; (c = getc(f)) != EOF; n++) fprintf(out, n % 24 ? "%d," : "\n%d,", c);
  fprintf(out, "0};\n");
  return fclose(f);
}

int main(int argc, char **argv) {
  FILE *out = argc > 1 ? fopen(argv[1], "wb") : NULL;
  if (!out) return perror("embed"), 1;
  for (int i = 2; i < argc; i++)
    if (emit(out, i, argv[i])) return 1;
  fprintf(out, "#include <stddef.h>\nconst struct { const char *name; const unsigned char *text; size_t bytes; } embedded_files[] = {\n");
  for (int i = 2; i < argc; i++) fprintf(out, "  {\"%s\", file%d, sizeof file%d - 1},\n", argv[i], i, i);
  fprintf(out, "  {NULL, NULL, 0}};\n");
  return fclose(out) != 0;
}
