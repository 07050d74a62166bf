// Reads and writes maps in the format for programs of others, by bpf(2) alone and from its description in docs/EXTERNAL.md:
// what another program would make of them.
//
//   shared-maps create PATH MAP MAXIMUM
//   shared-maps list   PATH MAP                                 prints lines of: ENTRY HITS ACTION
//   shared-maps set    PATH MAP ENTRY HITS ACTION [PADDING]     the padding is a byte in hexadecimal
//   shared-maps delete PATH MAP ENTRY
//
// MAP is addr-v4, addr-v6, qnames, cidr4 or cidr6; ENTRY is 192.0.2.1, 2001:db8::1, evil.example/255, 192.0.2.0/24, 2001:db8::/32.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct value {
    uint64_t hits;
    uint8_t action;
    uint8_t padding[7];
};

struct name_key {
    uint8_t name[255];
    uint8_t padding;
    uint16_t qtype;
};

struct range4_key {
    uint32_t len;
    struct in_addr address;
};

struct range6_key {
    uint32_t len;
    struct in6_addr address;
};

union key {
    uint32_t addr4;
    struct in6_addr addr6;
    struct name_key name;
    struct range4_key range4;
    struct range6_key range6;
};

_Static_assert(sizeof(struct value) == 16, "the value");
_Static_assert(sizeof(struct name_key) == 258 && offsetof(struct name_key, qtype) == 256, "the key of a name");
_Static_assert(sizeof(struct range4_key) == 8 && sizeof(struct range6_key) == 20, "the keys of ranges");

enum map { ADDR_V4, ADDR_V6, QNAMES, CIDR4, CIDR6, MAPS };

static const struct {
    const char *name;
    uint32_t type, key_size, flags;
} maps[MAPS] = {
    [ADDR_V4] = {"addr-v4", BPF_MAP_TYPE_HASH, 4, 0},
    [ADDR_V6] = {"addr-v6", BPF_MAP_TYPE_HASH, 16, 0},
    [QNAMES] = {"qnames", BPF_MAP_TYPE_HASH, 258, 0},
    [CIDR4] = {"cidr4", BPF_MAP_TYPE_LPM_TRIE, 8, BPF_F_NO_PREALLOC},
    [CIDR6] = {"cidr6", BPF_MAP_TYPE_LPM_TRIE, 20, BPF_F_NO_PREALLOC},
};

static long bpf(enum bpf_cmd command, union bpf_attr *attr) {
    return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void fail(const char *what) {
    fprintf(stderr, "shared-maps: %s: %s\n", what, errno ? strerror(errno) : "not understood");
    exit(1);
}

static void parse_name(char *text, struct name_key *key) {
    size_t at = 0;
    for (char *label = strtok(text, "."); label; label = strtok(NULL, ".")) {
        size_t len = strlen(label);
        if (len > 63 || at + 1 + len > 254) fail("name");
        key->name[at] = (uint8_t)len;
        for (size_t i = 0; i < len; i++)
            key->name[at + 1 + i] = label[i] >= 'A' && label[i] <= 'Z' ? (uint8_t)(label[i] | 0x20) : (uint8_t)label[i];
        at += 1 + len;
    }
}

static void parse(enum map map, char *entry, union key *key) {
    char *slash = strchr(entry, '/');
    uint32_t number = 0;
    int ok = 1;
    memset(key, 0, sizeof(*key));
    if (slash) {
        *slash = 0;
        number = (uint32_t)strtoul(slash + 1, NULL, 10);
    }
    errno = 0;
    switch (map) {
    case ADDR_V4: {
        struct in_addr address = {0};
        ok = inet_pton(AF_INET, entry, &address);
        key->addr4 = ntohl(address.s_addr);
        break;
    }
    case ADDR_V6:
        ok = inet_pton(AF_INET6, entry, &key->addr6);
        break;
    case QNAMES:
        key->name.qtype = (uint16_t)number;
        parse_name(entry, &key->name);
        break;
    case CIDR4:
        key->range4.len = number;
        ok = inet_pton(AF_INET, entry, &key->range4.address);
        break;
    case CIDR6:
        key->range6.len = number;
        ok = inet_pton(AF_INET6, entry, &key->range6.address);
        break;
    case MAPS:
        ok = 0;
    }
    if (ok != 1) fail(entry);
}

static void print(enum map map, const union key *key, const struct value *value) {
    char text[INET6_ADDRSTRLEN];
    switch (map) {
    case ADDR_V4: {
        struct in_addr address = {htonl(key->addr4)};
        printf("%s", inet_ntop(AF_INET, &address, text, sizeof(text)));
        break;
    }
    case ADDR_V6:
        printf("%s", inet_ntop(AF_INET6, &key->addr6, text, sizeof(text)));
        break;
    case QNAMES: {
        const uint8_t *label = key->name.name;
        for (const uint8_t *end = label + 255; label < end && *label && label + *label < end; label += 1 + *label)
            printf("%.*s.", *label, (const char *)label + 1);
        printf("/%u", key->name.qtype);
        break;
    }
    case CIDR4:
        printf("%s/%u", inet_ntop(AF_INET, &key->range4.address, text, sizeof(text)), key->range4.len);
        break;
    case CIDR6:
        printf("%s/%u", inet_ntop(AF_INET6, &key->range6.address, text, sizeof(text)), key->range6.len);
        break;
    case MAPS:
        break;
    }
    printf(" %llu %u\n", (unsigned long long)value->hits, value->action);
}

static void create(const char *path, enum map map, uint32_t max) {
    union bpf_attr attr = {0};
    attr.map_type = maps[map].type;
    attr.key_size = maps[map].key_size;
    attr.value_size = sizeof(struct value);
    attr.max_entries = max;
    attr.map_flags = maps[map].flags;
    long fd = bpf(BPF_MAP_CREATE, &attr);
    if (fd < 0) fail("create");
    memset(&attr, 0, sizeof(attr));
    attr.pathname = (uintptr_t)path;
    attr.bpf_fd = (uint32_t)fd;
    if (bpf(BPF_OBJ_PIN, &attr)) fail(path);
}

static uint32_t open_pin(const char *path) {
    union bpf_attr attr = {0};
    attr.pathname = (uintptr_t)path;
    long fd = bpf(BPF_OBJ_GET, &attr);
    if (fd < 0) fail(path);
    return (uint32_t)fd;
}

static void list(uint32_t fd, enum map map) {
    union key key, next;
    struct value value;
    for (const union key *from = NULL;; key = next, from = &key) {
        union bpf_attr attr = {0};
        attr.map_fd = fd;
        attr.key = (uintptr_t)from;
        attr.next_key = (uintptr_t)&next;
        if (bpf(BPF_MAP_GET_NEXT_KEY, &attr)) {
            if (errno == ENOENT) return;
            fail("next key");
        }
        attr.key = (uintptr_t)&next;
        attr.value = (uintptr_t)&value;
        if (bpf(BPF_MAP_LOOKUP_ELEM, &attr)) fail("lookup");
        print(map, &next, &value);
    }
}

static void set(uint32_t fd, const union key *key, char **rest, int count) {
    struct value value = {.hits = strtoull(rest[0], NULL, 10), .action = (uint8_t)strtoul(rest[1], NULL, 10)};
    if (count > 2) memset(value.padding, (int)strtoul(rest[2], NULL, 16), sizeof(value.padding));
    union bpf_attr attr = {0};
    attr.map_fd = fd;
    attr.key = (uintptr_t)key;
    attr.value = (uintptr_t)&value;
    attr.flags = BPF_ANY;
    if (bpf(BPF_MAP_UPDATE_ELEM, &attr)) fail("update");
}

static void delete(uint32_t fd, const union key *key) {
    union bpf_attr attr = {0};
    attr.map_fd = fd;
    attr.key = (uintptr_t)key;
    if (bpf(BPF_MAP_DELETE_ELEM, &attr)) fail("delete");
}

int main(int argc, char **argv) {
    union key key;
    unsigned map = 0;
    if (argc < 4) fail("arguments");
    while (map < MAPS && strcmp(argv[3], maps[map].name)) map++;
    if (map == MAPS) fail(argv[3]);
    if (argc == 5 && !strcmp(argv[1], "create")) {
        create(argv[2], map, (uint32_t)strtoul(argv[4], NULL, 10));
        return 0;
    }
    uint32_t fd = open_pin(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "list")) {
        list(fd, map);
    } else if (argc >= 7 && !strcmp(argv[1], "set")) {
        parse(map, argv[4], &key);
        set(fd, &key, argv + 5, argc - 5);
    } else if (argc == 5 && !strcmp(argv[1], "delete")) {
        parse(map, argv[4], &key);
        delete(fd, &key);
    } else {
        fail(argv[1]);
    }
    return 0;
}
