// What the two files of the program know of each other.
#include <stdint.h>

unsigned long hop(unsigned long x, int kind);
uint64_t clock_ns(void);
void add_spent(int work, uint64_t begin_ns);
unsigned long burn(unsigned long x, unsigned long parts);
