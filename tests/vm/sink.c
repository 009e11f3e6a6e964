// A destination for profiles that says 200 to every request and keeps nothing: one line on standard output for each.
//
//     sink PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 16, HEAD_MAX_BYTES = 16 * 1024, BODY_MAX_BYTES = 64 * 1024 * 1024 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n\r\n";
static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";

struct connection {
    int fd;
    size_t head_bytes;
    // What is still to come of the body; -1 while the head is read.
    long body_left;
    long body_bytes;
    char head[HEAD_MAX_BYTES + 1];
};

static struct connection connections[CONNECTIONS_MAX];
static int open_connections;

// Whether the head is one that this program can read; it ends with an empty line.
static int begin_body(struct connection *it)
{
    const char *length = strcasestr(it->head, "\r\nContent-Length:");
    it->body_bytes = length ? atol(strchr(length, ':') + 1) : 0;
    if (strcasestr(it->head, "\r\nTransfer-Encoding:") || it->body_bytes < 0 || it->body_bytes > BODY_MAX_BYTES)
        return 0;
    it->body_left = it->body_bytes;
    if (strcasestr(it->head, "\r\nExpect: 100-continue") && write(it->fd, CONTINUE, sizeof CONTINUE - 1) < 0)
        return 0;
    return 1;
}

// Takes what has come; 0 when the connection is to be closed.
static int take(struct connection *it)
{
    static char bytes[64 * 1024];
    ssize_t got = read(it->fd, bytes, sizeof bytes);
    if (got <= 0)
        return 0;
    for (char *at = bytes, *end = bytes + got; at < end || it->body_left == 0;) {
        if (it->body_left == 0) {
            printf("bytes=%ld\n", it->body_bytes);
            fflush(stdout);
            if (write(it->fd, ANSWER, sizeof ANSWER - 1) < 0)
                return 0;
            it->body_left = -1;
            it->head_bytes = 0;
        } else if (it->body_left > 0) {
            long part = end - at < it->body_left ? end - at : it->body_left;
            it->body_left -= part;
            at += part;
        } else {
            if (it->head_bytes == HEAD_MAX_BYTES)
                return 0;
            it->head[it->head_bytes++] = *at++;
            it->head[it->head_bytes] = 0;
            int is_whole = it->head_bytes >= 4 && strcmp(it->head + it->head_bytes - 4, "\r\n\r\n") == 0;
            if (is_whole && !begin_body(it))
                return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, CONNECTIONS_MAX) != 0) {
        perror("listen");
        return 1;
    }
    for (;;) {
        struct pollfd polled[CONNECTIONS_MAX + 1] = {{.fd = listener, .events = POLLIN}};
        for (int i = 0; i < open_connections; i++)
            polled[i + 1] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
        if (poll(polled, (nfds_t)open_connections + 1, -1) < 0)
            return 1;
        for (int i = open_connections - 1; i >= 0; i--) {
            if (!polled[i + 1].revents || take(&connections[i]))
                continue;
            close(connections[i].fd);
            memmove(&connections[i], &connections[--open_connections], sizeof connections[i]);
        }
        if (!polled[0].revents)
            continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || open_connections == CONNECTIONS_MAX) {
            close(fd);
            continue;
        }
        struct connection *it = &connections[open_connections++];
        it->fd = fd;
        it->head_bytes = 0;
        it->body_left = -1;
    }
}
