/* Reads a request's body on stdin and writes the answer to stdout: how many words and bytes it has. */
#include <ctype.h>
#include <stdio.h>

int main(void) {
    long words = 0, bytes = 0;
    int in_word = 0;
    for (int c; (c = getchar()) != EOF; bytes++) {
        if (isspace(c)) {
            in_word = 0;
        } else if (!in_word) {
            in_word = 1;
            words++;
        }
    }
    printf("%ld words, %ld bytes\n", words, bytes);
    return 0; /* anything else is an error: what it printed is not an answer then */
}
