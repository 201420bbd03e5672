/* Prints a label for what was shipped: a program that knows nothing of Dunlin. The event's data comes in by stdin, its
 * attributes as variables, and what it prints is returned as an event `labels.output`. */
#include <stdio.h>
#include <stdlib.h>

/* A Code 39 bar code would begin and end like this, and has these characters only. */
static void print_code(const char *text) {
    putchar('*');
    for (; *text; text++) {
        char c = *text;
        if (c >= 'a' && c <= 'z') {
            c -= 'a' - 'A';
        }
        putchar((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ? c : '.');
    }
    puts("*");
}

int main(void) {
    const char *order = getenv("HTTP_CE_SUBJECT");
    if (order == NULL || *order == '\0') {
        fputs("the event has no subject, which is the order's id\n", stderr);
        return 1;
    }
    puts("+--------------------------------------+");
    printf("| ORDER %-30.30s |\n", order);
    puts("+--------------------------------------+");
    print_code(order);
    return 0;
}
