/* load: a WebSocket load client for one server on the loopback interface.
 *
 *   load echo       --port P [--connections N] [--window W] [--size S] [--binary] [--masked-replies]
 *                            [--warm-up SECONDS] [--seconds SECONDS] [--messages COUNT]
 *   load idle       --port P [--connections N] [--masked-replies] [--seconds SECONDS]
 *   load handshakes --port P [--concurrency C] [--masked-replies] [--warm-up SECONDS] [--seconds SECONDS]
 *
 * echo        Every connection sends W messages of S bytes in one go, and the next W when all of them have come
 *             back. The round-trip time is that of the whole window: with W = 1 it is the time of one message.
 * idle        Opens the connections, prints a line, and holds them until its standard input ends or the time is
 *             over. Pings are answered.
 * handshakes  C connections at a time are opened, closed with a closing handshake, and opened again.
 *
 * The result is one line of JSON on standard output (idle prints one when everything is open and one at the end).
 * A server that refuses the handshake, closes early, or answers with anything but the echo ends the run with a
 * sentence on standard error and status 1: a figure from a server that does not work is no figure. Every run is
 * bounded and stops by itself.
 *
 * One thread and one epoll, so that the client takes no more than one core. Frames are masked once, before the
 * clock starts, so that the client's share of the time is small. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000ULL
#define PATIENCE_SECONDS 15     /* without a byte from the server, while one is due, the run has failed */
#define LEAVE_SECONDS 5         /* for the closing handshakes at the end, which are a courtesy */
#define FAILURES_TOLERATED 100  /* by handshakes mode, which counts them; the others tolerate none */
#define OTHER_FILES 16          /* descriptors besides the connections: standard streams, epoll, some room */

/* The key and the answer to it are the example of RFC 6455, section 1.3: no SHA-1 is needed to check the server. */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum opcode { CONTINUATION = 0x0, TEXT = 0x1, BINARY = 0x2, CLOSE = 0x8, PING = 0x9, PONG = 0xA };
enum { FIN = 0x80, MASKED = 0x80, LARGEST_CONTROL_PAYLOAD = 125, LARGEST_HEADER = 14, LARGEST_HEAD = 2048 };

/* Below 0x80, so that masked ASCII never looks like the first byte of a frame. */
static const uint8_t MASK[4] = {0x12, 0x5a, 0x6c, 0x71};

/* ---- Options --------------------------------------------------------------------------------------------------- */

enum mode { ECHO_MODE, IDLE_MODE, HANDSHAKES_MODE };

static struct {
    enum mode mode;
    uint16_t port;
    uint32_t connections;
    uint32_t concurrency; /* connections being opened at one time: less than the usual listen backlog of 100 */
    uint32_t window;
    uint64_t size;
    uint64_t messages; /* 0: bounded by time alone */
    double warm_up;
    double seconds;
    bool binary;
    bool masked_replies; /* the bare TCP server sends back what it got, masks and all */
} options = {.connections = 10, .concurrency = 64, .window = 1, .size = 32, .warm_up = 0.2, .seconds = 2};

/* ---- Connections and counts ------------------------------------------------------------------------------------ */

enum phase { UNUSED, CONNECTING, UPGRADING, OPEN, CLOSING };

struct connection {
    int descriptor;
    enum phase phase;
    bool wants_to_write;
    uint64_t started; /* when the connection, or its current window, began */
    uint64_t echoes_due;

    /* The frame being read. */
    uint8_t header[LARGEST_HEADER];
    size_t header_length;
    bool in_payload;
    uint64_t payload_left;
    uint64_t message_length; /* of the data frames so far */
    bool in_message;
    uint8_t control_payload[LARGEST_CONTROL_PAYLOAD];
    size_t control_payload_length;
    bool close_received;

    /* What is being written: a window of frames, which all connections share, and a control frame. */
    const uint8_t *window_left;
    size_t window_left_length;
    uint8_t control_frame[6 + LARGEST_CONTROL_PAYLOAD];
    size_t control_frame_length;

    char head[LARGEST_HEAD];
    size_t head_length;
};

static struct {
    uint64_t opened;
    uint64_t handshakes; /* opened, closed by both sides, and the server's end of the TCP connection seen */
    uint64_t failed;
    uint64_t dropped;
    uint64_t messages;
    uint64_t pings;
} counts;

static struct connection *connections;
static int epoll_descriptor;
static uint64_t last_progress;
static bool measuring_is_over;
static bool leaving; /* the connections are being closed, and how that goes is no result */

static char upgrade_request[512];
static size_t upgrade_request_length;
static uint8_t *window_frames;
static size_t window_frames_length;

static uint8_t read_buffer[256 * 1024];

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

/* ---- Time ------------------------------------------------------------------------------------------------------ */

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NANOSECONDS + (uint64_t)time.tv_nsec;
}

static uint64_t after(double seconds) { return now() + (uint64_t)(seconds * NANOSECONDS); }

static double seconds_since(uint64_t start) { return (double)(now() - start) / NANOSECONDS; }

static double own_cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- Round-trip times: a histogram of 128 steps for every power of two, thus exact to 1 % ---------------------- */

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS };

static uint64_t histogram[(64 - STEP_BITS + 1) * STEPS];
static uint64_t histogram_total;

static void record_round_trip(uint64_t nanoseconds) {
    unsigned shift = 0;
    if (nanoseconds >= 2 * STEPS) shift = 63 - STEP_BITS - (unsigned)__builtin_clzll(nanoseconds);
    histogram[shift * STEPS + (nanoseconds >> shift)]++;
    histogram_total++;
}

static double percentile_in_microseconds(double fraction) {
    uint64_t wanted = (uint64_t)(fraction * (double)histogram_total), seen = 0;
    for (size_t slot = 0; slot < sizeof histogram / sizeof *histogram; slot++) {
        seen += histogram[slot];
        if (seen > wanted) {
            unsigned shift = slot < 2 * STEPS ? 0 : (unsigned)(slot / STEPS - 1);
            double lower_edge = (double)((uint64_t)(slot - (size_t)shift * STEPS) << shift);
            return (lower_edge + (double)(1ULL << shift) / 2) / 1000;
        }
    }
    return 0;
}

/* ---- Frames out ------------------------------------------------------------------------------------------------ */

static size_t write_frame(uint8_t *frame, enum opcode opcode, const uint8_t *payload, uint64_t length) {
    size_t position = 0;
    frame[position++] = FIN | (uint8_t)opcode;
    if (length <= 125) {
        frame[position++] = (uint8_t)(MASKED | length);
    } else {
        unsigned length_bytes = length <= UINT16_MAX ? 2 : 8;
        frame[position++] = MASKED | (length_bytes == 2 ? 126 : 127);
        while (length_bytes-- > 0) frame[position++] = (uint8_t)(length >> (8 * length_bytes));
    }
    memcpy(frame + position, MASK, sizeof MASK);
    position += sizeof MASK;
    for (uint64_t index = 0; index < length; index++) frame[position++] = payload[index] ^ MASK[index % 4];
    return position;
}

static void build_window(void) {
    uint8_t *payload = malloc(options.size + 1);
    window_frames = malloc((LARGEST_HEADER + options.size) * options.window);
    if (!payload || !window_frames) fail("out of memory");
    for (uint64_t index = 0; index < options.size; index++) payload[index] = (uint8_t)('a' + index % 26);
    for (uint32_t message = 0; message < options.window; message++) {
        uint8_t *frame = window_frames + window_frames_length;
        window_frames_length += write_frame(frame, options.binary ? BINARY : TEXT, payload, options.size);
    }
    free(payload);
}

static void build_upgrade_request(void) {
    upgrade_request_length = (size_t)snprintf(upgrade_request, sizeof upgrade_request,
                                              "GET / HTTP/1.1\r\n"
                                              "Host: 127.0.0.1:%u\r\n"
                                              "Upgrade: websocket\r\n"
                                              "Connection: Upgrade\r\n"
                                              "Sec-WebSocket-Key: " WEBSOCKET_KEY "\r\n"
                                              "Sec-WebSocket-Version: 13\r\n"
                                              "\r\n",
                                              options.port);
}

/* ---- Sockets --------------------------------------------------------------------------------------------------- */

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_descriptor, operation, connection->descriptor, &event)) fail("epoll_ctl: %s", strerror(errno));
}

static void start_connection(struct connection *connection) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int enabled = 1;

    memset(connection, 0, offsetof(struct connection, head));
    connection->head_length = 0;
    connection->started = now();
    connection->phase = CONNECTING;
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0) fail("socket: %s", strerror(errno));
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &enabled, sizeof enabled);
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(connection, EPOLL_CTL_ADD, EPOLLOUT);
}

static void end_connection(struct connection *connection) {
    close(connection->descriptor);
    connection->phase = UNUSED;
}

/* A connection that the server ended or spoiled: counted where that is a result, the end of the run where it is not. */
static void give_up(struct connection *connection, const char *reason) {
    if (options.mode == IDLE_MODE && connection->phase == OPEN) {
        counts.dropped++;
    } else if (!leaving) {
        counts.failed++;
        if (options.mode != HANDSHAKES_MODE || counts.failed > FAILURES_TOLERATED) fail("%s", reason);
    }
    end_connection(connection);
}

static void write_pending(struct connection *connection) {
    while (connection->window_left_length + connection->control_frame_length > 0) {
        /* A frame that has begun goes first; of two that have not, the control frame. */
        bool window_has_begun = connection->window_left_length < window_frames_length;
        bool is_window =
            connection->window_left_length > 0 && (window_has_begun || connection->control_frame_length == 0);
        const uint8_t *bytes = is_window ? connection->window_left : connection->control_frame;
        size_t length = is_window ? connection->window_left_length : connection->control_frame_length;
        ssize_t written = send(connection->descriptor, bytes, length, MSG_NOSIGNAL);
        if (written < 0) {
            if (errno == EAGAIN || errno == EINTR) break;
            give_up(connection, "the server closed the connection while it was being sent to");
            return;
        }
        if (is_window) {
            connection->window_left += written;
            connection->window_left_length -= (size_t)written;
        } else {
            connection->control_frame_length -= (size_t)written;
            memmove(connection->control_frame, bytes + written, connection->control_frame_length);
        }
    }
    bool wants_to_write = connection->window_left_length + connection->control_frame_length > 0;
    if (wants_to_write != connection->wants_to_write) {
        connection->wants_to_write = wants_to_write;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN | (wants_to_write ? (uint32_t)EPOLLOUT : 0));
    }
}

static void send_control(struct connection *connection, enum opcode opcode, const uint8_t *payload, size_t length) {
    /* One that is still waiting has precedence: a pong may be left out when another one follows (RFC 6455, 5.5.3). */
    if (connection->control_frame_length > 0) return;
    connection->control_frame_length = write_frame(connection->control_frame, opcode, payload, length);
    write_pending(connection);
}

static void send_window(struct connection *connection) {
    connection->echoes_due = options.window;
    connection->window_left = window_frames;
    connection->window_left_length = window_frames_length;
    connection->started = now();
    write_pending(connection);
}

/* ---- Frames in ------------------------------------------------------------------------------------------------- */

static void start_closing(struct connection *connection) {
    static const uint8_t normal_closure[2] = {1000 >> 8, 1000 & 0xff};
    connection->phase = CLOSING;
    send_control(connection, CLOSE, normal_closure, sizeof normal_closure);
}

static void on_open(struct connection *connection) {
    connection->phase = OPEN;
    counts.opened++;
    if (options.mode == HANDSHAKES_MODE) {
        record_round_trip(now() - connection->started);
        start_closing(connection);
    }
}

static void on_message(struct connection *connection) {
    if (options.mode != ECHO_MODE || connection->echoes_due == 0) fail("the server sent a message that is no echo");
    if (connection->message_length != options.size)
        fail("an echo has %llu bytes, not %llu", (unsigned long long)connection->message_length,
             (unsigned long long)options.size);
    counts.messages++;
    if (--connection->echoes_due == 0) {
        record_round_trip(now() - connection->started);
        if (!measuring_is_over) send_window(connection);
    }
}

static void on_frame(struct connection *connection) {
    enum opcode opcode = connection->header[0] & 0x0f;
    connection->in_payload = false;
    connection->header_length = 0;
    switch (opcode) {
    case PING:
        counts.pings++;
        send_control(connection, PONG, connection->control_payload, connection->control_payload_length);
        break;
    case PONG:
        break;
    case CLOSE:
        connection->close_received = true;
        break;
    default:
        connection->in_message = !(connection->header[0] & FIN);
        if (!connection->in_message) {
            on_message(connection);
            connection->message_length = 0;
        }
    }
}

/* The length of the header as far as its first two bytes tell it. */
static size_t header_length_wanted(const struct connection *connection) {
    if (connection->header_length < 2) return 2;
    uint8_t length = connection->header[1] & 0x7f;
    bool is_masked = connection->header[1] & MASKED;
    size_t length_bytes = length == 126 ? 2 : length == 127 ? 8 : 0;
    return 2 + length_bytes + (is_masked ? sizeof MASK : 0);
}

static void on_header(struct connection *connection) {
    const uint8_t *header = connection->header;
    enum opcode opcode = header[0] & 0x0f;
    uint64_t length = header[1] & 0x7f;
    if (length >= 126) {
        unsigned length_bytes = length == 126 ? 2 : 8;
        length = 0;
        for (unsigned index = 0; index < length_bytes; index++) length = length << 8 | header[2 + index];
    }

    if (header[0] & 0x70) fail("a frame has a reserved bit set: there is no extension");
    if ((bool)(header[1] & MASKED) != options.masked_replies) fail("a frame of the server's is masked wrongly");
    if (opcode >= CLOSE) {
        if (length > LARGEST_CONTROL_PAYLOAD) fail("a control frame has %llu bytes", (unsigned long long)length);
        connection->control_payload_length = 0;
    } else {
        enum opcode wanted = connection->in_message ? CONTINUATION : options.binary ? BINARY : TEXT;
        if (opcode != wanted) fail("a data frame has the opcode %d, not %d", opcode, wanted);
        connection->message_length += length;
    }
    connection->in_payload = true;
    connection->payload_left = length;
}

static void receive(struct connection *connection, const uint8_t *bytes, size_t length) {
    while (length > 0 && connection->phase >= OPEN) {
        size_t taken;
        if (connection->in_payload) {
            taken = connection->payload_left < length ? connection->payload_left : length;
            if ((connection->header[0] & 0x0f) >= CLOSE) {
                memcpy(connection->control_payload + connection->control_payload_length, bytes, taken);
                connection->control_payload_length += taken;
            }
            connection->payload_left -= taken;
        } else {
            size_t missing = header_length_wanted(connection) - connection->header_length;
            taken = missing < length ? missing : length;
            memcpy(connection->header + connection->header_length, bytes, taken);
            connection->header_length += taken;
            if (connection->header_length >= 2 && connection->header_length == header_length_wanted(connection))
                on_header(connection);
        }
        bytes += taken;
        length -= taken;
        if (connection->in_payload && connection->payload_left == 0) on_frame(connection);
    }
}

/* ---- The opening and the closing handshake --------------------------------------------------------------------- */

static void on_connected(struct connection *connection) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        give_up(connection, strerror(error));
        return;
    }
    connection->phase = UPGRADING;
    if (send(connection->descriptor, upgrade_request, upgrade_request_length, MSG_NOSIGNAL) !=
        (ssize_t)upgrade_request_length) {
        give_up(connection, "the request could not be sent");
        return;
    }
    watch(connection, EPOLL_CTL_MOD, EPOLLIN);
}

/* Returns how many of the bytes belong to the response's head. */
static size_t receive_head(struct connection *connection, const uint8_t *bytes, size_t length) {
    size_t before = connection->head_length, room = sizeof connection->head - 1 - before;
    size_t taken = length < room ? length : room;
    memcpy(connection->head + before, bytes, taken);
    connection->head_length += taken;
    connection->head[connection->head_length] = '\0';

    char *end = strstr(connection->head, "\r\n\r\n");
    if (!end) {
        if (taken < length) give_up(connection, "the response's head is too long");
        return length;
    }
    if (strncmp(connection->head, "HTTP/1.1 101 ", 13)) {
        connection->head[strcspn(connection->head, "\r")] = '\0';
        fail("the server refused the handshake: %s", connection->head);
    }
    if (!strstr(connection->head, WEBSOCKET_ACCEPT)) fail("the response has a wrong Sec-WebSocket-Accept");
    size_t head_ends = (size_t)(end + 4 - connection->head);
    on_open(connection);
    return head_ends - before;
}

static void on_end(struct connection *connection) {
    if (connection->phase == CLOSING && connection->close_received) {
        counts.handshakes++;
        end_connection(connection);
    } else if (connection->phase == UPGRADING) {
        give_up(connection, "the server closed the connection instead of answering the handshake");
    } else {
        give_up(connection, "the server closed the connection");
    }
}

static void on_readable(struct connection *connection) {
    ssize_t received = recv(connection->descriptor, read_buffer, sizeof read_buffer, 0);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (received <= 0) {
        on_end(connection);
        return;
    }
    last_progress = now();
    size_t length = (size_t)received, taken = 0;
    if (connection->phase == UPGRADING) taken = receive_head(connection, read_buffer, length);
    receive(connection, read_buffer + taken, length - taken);
}

/* ---- The event loop -------------------------------------------------------------------------------------------- */

/* Waits for events and handles them. True when standard input, which has no connection, is readable or at its end. */
static bool handle_events(int timeout_milliseconds) {
    struct epoll_event events[256];
    bool input_is_readable = false;
    int count = epoll_wait(epoll_descriptor, events, 256, timeout_milliseconds);
    if (count < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int index = 0; index < count; index++) {
        struct connection *connection = events[index].data.ptr;
        if (!connection) {
            input_is_readable = true;
        } else if (connection->phase == CONNECTING) {
            on_connected(connection);
        } else {
            if (events[index].events & ~(uint32_t)EPOLLOUT) on_readable(connection);
            if (connection->phase >= OPEN && connection->wants_to_write) write_pending(connection);
        }
    }
    return input_is_readable;
}

static void handle_events_that_are_due(void) {
    handle_events(100);
    if (seconds_since(last_progress) > PATIENCE_SECONDS) fail("nothing from the server in %d s", PATIENCE_SECONDS);
}

static void open_all(void) {
    last_progress = now();
    for (uint32_t started = 0; counts.opened < options.connections;) {
        while (started < options.connections && started - counts.opened < options.concurrency)
            start_connection(&connections[started++]);
        handle_events_that_are_due();
    }
}

/* Says good-bye: for a connection that ends without, some servers log a traceback, which takes them memory. */
static void close_all(void) {
    leaving = true;
    for (uint32_t index = 0; index < options.connections; index++)
        if (connections[index].phase == OPEN) start_closing(&connections[index]);
    uint64_t end = after(LEAVE_SECONDS);
    for (uint32_t index = 0; index < options.connections; index++)
        while (connections[index].phase != UNUSED && now() < end) handle_events(100);
}

/* ---- The modes ------------------------------------------------------------------------------------------------- */

struct measurement {
    double seconds;
    double cpu_seconds;
};

/* Runs until the time is over or the counter has got to its bound (0: none), first warming up without counting. */
static struct measurement measure(void (*turn)(void), const uint64_t *counter, uint64_t bound) {
    for (uint64_t end = after(options.warm_up); now() < end;) turn();
    memset(histogram, 0, sizeof histogram);
    histogram_total = 0;
    counts.messages = counts.handshakes = counts.pings = 0;

    double cpu_before = own_cpu_seconds();
    uint64_t start = now();
    for (uint64_t end = after(options.seconds); now() < end && (bound == 0 || *counter < bound);) turn();
    struct measurement measurement = {seconds_since(start), own_cpu_seconds() - cpu_before};
    measuring_is_over = true;
    return measurement;
}

static void print_end_of_result(struct measurement measurement) {
    printf("\"rtt_p50_us\": %.1f, \"rtt_p90_us\": %.1f, \"rtt_p99_us\": %.1f, \"rtt_samples\": %llu, "
           "\"seconds\": %.3f, \"cpu_seconds\": %.3f}\n",
           percentile_in_microseconds(0.50), percentile_in_microseconds(0.90), percentile_in_microseconds(0.99),
           (unsigned long long)histogram_total, measurement.seconds, measurement.cpu_seconds);
}

static void run_echo(void) {
    build_window();
    open_all();
    for (uint32_t index = 0; index < options.connections; index++) send_window(&connections[index]);
    struct measurement measurement = measure(handle_events_that_are_due, &counts.messages, options.messages);
    double rate = (double)counts.messages / measurement.seconds;
    printf("{\"mode\": \"echo\", \"connections\": %u, \"window\": %u, \"size\": %llu, \"messages\": %llu, "
           "\"messages_per_second\": %.1f, \"megabytes_per_second\": %.3f, ",
           options.connections, options.window, (unsigned long long)options.size, (unsigned long long)counts.messages,
           rate, rate * (double)options.size / 1e6);
    print_end_of_result(measurement);
    for (uint32_t index = 0; index < options.connections; index++)
        while (connections[index].echoes_due > 0) handle_events_that_are_due();
    close_all();
}

static void reopen_and_handle_events(void) {
    for (uint32_t index = 0; index < options.concurrency; index++)
        if (connections[index].phase == UNUSED) start_connection(&connections[index]);
    handle_events_that_are_due();
}

static void run_handshakes(void) {
    last_progress = now();
    struct measurement measurement = measure(reopen_and_handle_events, &counts.handshakes, 0);
    printf("{\"mode\": \"handshakes\", \"concurrency\": %u, \"handshakes\": %llu, \"failed\": %llu, "
           "\"handshakes_per_second\": %.1f, ",
           options.concurrency, (unsigned long long)counts.handshakes, (unsigned long long)counts.failed,
           (double)counts.handshakes / measurement.seconds);
    print_end_of_result(measurement);
}

static void run_idle(void) {
    uint64_t start = now();
    open_all();
    printf("{\"mode\": \"idle\", \"opened\": %llu, \"seconds\": %.3f}\n", (unsigned long long)counts.opened,
           seconds_since(start));
    fflush(stdout);

    /* A file or the null device cannot be waited for: then the time alone bounds the run. */
    struct epoll_event input_event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, STDIN_FILENO, &input_event);
    for (uint64_t end = after(options.seconds); now() < end;) {
        char ignored[64];
        if (handle_events(100) && read(STDIN_FILENO, ignored, sizeof ignored) == 0) break;
    }
    printf("{\"mode\": \"idle\", \"opened\": %llu, \"dropped\": %llu, \"pings\": %llu, \"seconds\": %.3f, "
           "\"cpu_seconds\": %.3f}\n",
           (unsigned long long)counts.opened, (unsigned long long)counts.dropped, (unsigned long long)counts.pings,
           seconds_since(start), own_cpu_seconds());
    close_all();
}

/* ---- The command line ------------------------------------------------------------------------------------------ */

static double number(const char *name, const char *text, double smallest, double largest) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= smallest && value <= largest))
        fail("--%s must be a number from %g to %g, not '%s'", name, smallest, largest, text);
    return value;
}

static void parse_options(int count, char **arguments) {
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},        {"connections", required_argument, NULL, 'n'},
        {"concurrency", required_argument, NULL, 'c'}, {"window", required_argument, NULL, 'w'},
        {"size", required_argument, NULL, 's'},        {"messages", required_argument, NULL, 'm'},
        {"warm-up", required_argument, NULL, 'u'},     {"seconds", required_argument, NULL, 't'},
        {"binary", no_argument, NULL, 'b'},            {"masked-replies", no_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    const char *mode = count > 1 ? arguments[1] : "";
    if (!strcmp(mode, "echo")) options.mode = ECHO_MODE;
    else if (!strcmp(mode, "idle")) options.mode = IDLE_MODE;
    else if (!strcmp(mode, "handshakes")) options.mode = HANDSHAKES_MODE;
    else fail("the first argument must be echo, idle or handshakes");

    int letter, index = 0;
    while ((letter = getopt_long(count - 1, arguments + 1, "", names, &index)) != -1) {
        const char *name = names[index].name;
        switch (letter) {
        case 'p': options.port = (uint16_t)number(name, optarg, 1, 65535); break;
        case 'n': options.connections = (uint32_t)number(name, optarg, 1, 100000); break;
        case 'c': options.concurrency = (uint32_t)number(name, optarg, 1, 1000); break;
        case 'w': options.window = (uint32_t)number(name, optarg, 1, 100000); break;
        case 's': options.size = (uint64_t)number(name, optarg, 0, 64 << 20); break;
        case 'm': options.messages = (uint64_t)number(name, optarg, 1, 1e12); break;
        case 'u': options.warm_up = number(name, optarg, 0, 60); break;
        case 't': options.seconds = number(name, optarg, 0.01, 3600); break;
        case 'b': options.binary = true; break;
        case 'r': options.masked_replies = true; break;
        default: exit(EXIT_FAILURE);
        }
    }
    if (options.port == 0) fail("--port is needed");
}

static void raise_open_files_limit(uint32_t wanted) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)wanted + OTHER_FILES)
        fail("%u connections need more open files than the limit of %llu", wanted, (unsigned long long)limit.rlim_cur);
}

int main(int count, char **arguments) {
    parse_options(count, arguments);
    uint32_t slots = options.mode == HANDSHAKES_MODE ? options.concurrency : options.connections;
    raise_open_files_limit(slots);
    connections = calloc(slots, sizeof *connections);
    epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || epoll_descriptor < 0) fail("out of memory or files");
    build_upgrade_request();
    switch (options.mode) {
    case ECHO_MODE: run_echo(); break;
    case IDLE_MODE: run_idle(); break;
    case HANDSHAKES_MODE: run_handshakes(); break;
    }
    return EXIT_SUCCESS;
}
