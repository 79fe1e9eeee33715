/* terminal.h - a scene as text: braille dots for lines, half blocks for images, letters for letters.
 *
 * The scene must be laid out in cells: one is CELL_WIDTH x CELL_HEIGHT points, so that
 * a dot of the 2 x 4 braille pattern is a square of 3 points. White ink (0xffffffff) is
 * written in the terminal's own colour; shapes in the scene's background colour clear. */
#ifndef quench_terminal_h
#define quench_terminal_h

#include "base/buffer.h"
#include "scene.h"

enum { CELL_WIDTH = 6, CELL_HEIGHT = 12 };

typedef enum TerminalColours { COLOURS_NONE, COLOURS_256, COLOURS_TRUE } TerminalColours;

Status scene_terminal(const Scene *s, TerminalColours colours, Buffer *out);

/* The picture as sixel graphics with at most 255 colours. */
Status scene_sixel(const Scene *s, double dpi, Buffer *out);

/* Writes a question to the terminal and gathers what it answers within the time, until an answer ends with `last`
 * (0: until the time is up). The terminal is in raw mode meanwhile. Nothing comes back without a terminal. */
Status terminal_ask(const char *question, char last, int milliseconds, Buffer *answer);

#endif
