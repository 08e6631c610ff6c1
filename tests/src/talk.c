// serve PORT: tells whoever comes, by TCP or UDP, IPv4 or IPv6, the address that it came from; "ready" once it does.
// ask PROTOCOL ADDRESS PORT: prints what it is told.
// keep ADDRESS PORT OWN: asks by UDP from its OWN port again and again, and prints what it is told.
// flood ADDRESS PORT | sink PORT: how many megabytes a second go through, for five seconds.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

static int address(const char *text, int port, struct sockaddr_in6 *to, socklen_t *length) {
    memset(to, 0, sizeof *to);
    struct sockaddr_in *four = (struct sockaddr_in *)to;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        *length = sizeof *four;
        return AF_INET;
    }
    if (inet_pton(AF_INET6, text, &to->sin6_addr) != 1) exit(2);
    to->sin6_family = AF_INET6;
    to->sin6_port = htons(port);
    *length = sizeof *to;
    return AF_INET6;
}

static const char *shown(struct sockaddr_in6 *from) {
    static char text[100];
    if (from->sin6_family == AF_INET) inet_ntop(AF_INET, &((struct sockaddr_in *)from)->sin_addr, text, 99);
    else inet_ntop(AF_INET6, &from->sin6_addr, text, 99);
    strcat(text, "\n");
    return text;
}

static int listener(const char *any, int port, int kind) {
    struct sockaddr_in6 at;
    socklen_t length;
    int one = 1, family = address(any, port, &at, &length), s = socket(family, kind, 0);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6) setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(s, (void *)&at, length)) { perror("bind"); exit(3); }
    if (kind == SOCK_STREAM) listen(s, 100);
    return s;
}

static void serve(int port) {
    struct pollfd all[4];
    for (int n = 0; n < 4; n++) {
        all[n].fd = listener(n & 1 ? "::" : "0.0.0.0", port, n & 2 ? SOCK_DGRAM : SOCK_STREAM);
        all[n].events = POLLIN;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        poll(all, 4, -1);
        for (int n = 0; n < 4; n++) {
            if (!(all[n].revents & POLLIN)) continue;
            struct sockaddr_in6 from;
            socklen_t length = sizeof from;
            char bytes[100];
            if (n & 2) {
                recvfrom(all[n].fd, bytes, sizeof bytes, 0, (void *)&from, &length);
                const char *text = shown(&from);
                sendto(all[n].fd, text, strlen(text), 0, (void *)&from, length);
            } else {
                int c = accept(all[n].fd, (void *)&from, &length);
                const char *text = shown(&from);
                if (c >= 0 && write(c, text, strlen(text)) > 0) close(c);
            }
        }
    }
}

static int ask(const char *protocol, const char *to, int port) {
    struct sockaddr_in6 at;
    socklen_t length;
    struct timeval limit = {3, 0};
    int udp = !strcmp(protocol, "udp");
    int s = socket(address(to, port, &at, &length), udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(s, (void *)&at, length)) { perror("connect"); return 1; }
    if (udp && send(s, "?", 1, 0) != 1) { perror("send"); return 1; }
    char bytes[100];
    ssize_t n = recv(s, bytes, sizeof bytes, 0);
    if (n <= 0) { perror("recv"); return 1; }
    fwrite(bytes, 1, n, stdout);
    return 0;
}

static int keep(const char *to, int port, int own) {
    struct sockaddr_in6 at, from;
    socklen_t length;
    struct timeval limit = {0, 100000};
    int family = address(to, port, &at, &length), s = socket(family, SOCK_DGRAM, 0);
    address(family == AF_INET ? "0.0.0.0" : "::", own, &from, &length);
    if (bind(s, (void *)&from, length)) { perror("bind"); return 1; }
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    for (;;) {
        char bytes[100];
        sendto(s, "?", 1, 0, (void *)&at, length);
        ssize_t n = recv(s, bytes, sizeof bytes, 0);
        if (n <= 0) continue;
        fwrite(bytes, 1, n, stdout);
        fflush(stdout);
        usleep(20000);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static char much[1 << 17];

// Takes all that comes on one connection after another; a connection whose first byte is 'p' gets each byte back.
static void sink(int port) {
    int s = listener("0.0.0.0", port, SOCK_STREAM);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int c = accept(s, 0, 0);
        ssize_t n = read(c, much, 1);
        int back = n == 1 && much[0] == 'p';
        while ((n = read(c, much, sizeof much)) > 0)
            if (back && write(c, much, n) != n) break;
        close(c);
    }
}

static int flood(const char *to, int port) {
    struct sockaddr_in6 at;
    socklen_t length;
    int s = socket(address(to, port, &at, &length), SOCK_STREAM, 0);
    if (connect(s, (void *)&at, length)) { perror("connect"); return 1; }
    double begin = now(), sum = 0;
    while (now() - begin < 3) {
        ssize_t n = write(s, much, sizeof much);
        if (n <= 0) return 1;
        sum += n;
    }
    double rate = sum / (now() - begin) / 1e6;
    close(s);
    s = socket(((struct sockaddr *)&at)->sa_family, SOCK_STREAM, 0);
    if (connect(s, (void *)&at, length) || write(s, "p", 1) != 1) return 1;
    begin = now();
    int rounds = 0;
    while (now() - begin < 1) {
        if (write(s, "x", 1) != 1 || read(s, much, 1) != 1) return 1;
        rounds++;
    }
    printf("%.0f %.1f\n", rate, (now() - begin) / rounds * 1e6);
    return 0;
}

int main(int n, char **words) {
    if (n == 3 && !strcmp(words[1], "serve")) serve(atoi(words[2]));
    if (n == 5 && !strcmp(words[1], "ask")) return ask(words[2], words[3], atoi(words[4]));
    if (n == 5 && !strcmp(words[1], "keep")) return keep(words[2], atoi(words[3]), atoi(words[4]));
    if (n == 3 && !strcmp(words[1], "sink")) sink(atoi(words[2]));
    if (n == 4 && !strcmp(words[1], "flood")) return flood(words[2], atoi(words[3]));
    return 2;
}
