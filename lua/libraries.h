/* libraries.h - settings that OpenBLAS and libgomp take when they are loaded, before main. */
#ifndef quench_libraries_h
#define quench_libraries_h

/* Gives both the settings that suit this processor; may start the program again under argv, once. Returns one phrase on
 * OpenBLAS's kernels for `quench doctor`. */
const char *settle_libraries(char **argv);

#endif
