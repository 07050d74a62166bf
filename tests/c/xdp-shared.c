// An XDP program as somebody else might write one for these maps, from the description in docs/EXTERNAL.md: what it finds there
// decides about queries over UDP to port 53.
//
// Built with: clang -O2 -g -target bpf
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef EVERY_QTYPE
#define EVERY_QTYPE 255
#endif
#ifndef MAXIMUM
#define MAXIMUM 1024
#endif
#define NAME 255
#define LABEL 63

enum action { PASS = 0, DROP = 1, TRUNCATE = 2 };

struct value {
    __u64 hits;
    __u8 action;
    __u8 padding[7];
};

struct name_key {
    __u8 name[NAME];
    __u8 padding;
    __u16 qtype;
};

struct range4_key {
    __u32 len;
    __be32 address;
};

struct range6_key {
    __u32 len;
    struct in6_addr address;
};

struct vlan {
    __be16 tag;
    __be16 proto;
};

struct dns {
    __be16 id;
    __u8 flags[2]; // QR, opcode, AA, TC, RD; RA, Z, AD, CD, the response code
    __be16 counts[4];
};
#define QR 0x80
#define TC 0x02
#define AD 0x20

#define SHARED_MAP(map_name, map_type, key_type, map_flags_)                                                                     \
    struct {                                                                                                                     \
        __uint(type, map_type);                                                                                                  \
        __type(key, key_type);                                                                                                   \
        __type(value, struct value);                                                                                             \
        __uint(max_entries, MAXIMUM);                                                                                            \
        __uint(map_flags, map_flags_);                                                                                           \
    } map_name SEC(".maps")

SHARED_MAP(addr_v4, BPF_MAP_TYPE_HASH, __u32, 0);
SHARED_MAP(addr_v6, BPF_MAP_TYPE_HASH, struct in6_addr, 0);
SHARED_MAP(cidr4, BPF_MAP_TYPE_LPM_TRIE, struct range4_key, BPF_F_NO_PREALLOC);
SHARED_MAP(cidr6, BPF_MAP_TYPE_LPM_TRIE, struct range6_key, BPF_F_NO_PREALLOC);
SHARED_MAP(qnames, BPF_MAP_TYPE_HASH, struct name_key, 0);

// What is behind the header of the message, and the key that is made of it.
struct scratch {
    __u8 question[512];
    struct name_key key;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline int count(struct value *value) {
    __sync_fetch_and_add(&value->hits, 1);
    return value->action;
}

struct walk {
    __u32 left; // bytes of this label
    __u32 end;  // where the name ends, once that is known
    __u32 len;  // bytes that there are
};

// Copies one byte of the name, in lower case.
static long copy(__u32 at, void *context) {
    struct walk *walk = context;
    __u32 zero = 0;
    struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
    if (!scratch || at >= NAME || at >= walk->len) return 1;
    asm volatile("%0 &= 0xff" : "+r"(at)); // What the verifier sees of it above, it does not remember.
    __u8 byte = scratch->question[at];
    if (walk->left == 0) {
        if (byte == 0) {
            walk->end = at + 1;
            return 1;
        }
        if (byte > LABEL) return 1;
        walk->left = byte;
    } else {
        if (byte >= 'A' && byte <= 'Z') byte |= 0x20;
        walk->left--;
    }
    scratch->key.name[at] = byte;
    return 0;
}

// What the maps say of the question that starts there; -1 if nothing.
static __always_inline int decide_name(struct xdp_md *ctx, __u32 offset, __u64 len) {
    __u32 zero = 0;
    struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
    if (!scratch) return -1;
    if (len > NAME + 4) len = NAME + 4;
    if (len < 5) return -1;
    asm volatile("" : "+r"(len)); // The verifier is to see the bounds that are checked, not what the compiler makes of them.
    if (len > NAME + 4 || len == 0) return -1;
    if (bpf_xdp_load_bytes(ctx, offset, scratch->question, len)) return -1;
    __builtin_memset(&scratch->key, 0, sizeof(scratch->key));
    struct walk walk = {.len = (__u32)len};
    bpf_loop(NAME, copy, &walk, 0);
    __u32 end = walk.end;
    if (end == 0 || end > NAME || end + 2 > len) return -1;
    scratch->key.qtype = (__u16)(scratch->question[end] << 8 | scratch->question[end + 1]);
    struct value *value = bpf_map_lookup_elem(&qnames, &scratch->key);
    if (value) return count(value);
    scratch->key.qtype = EVERY_QTYPE;
    value = bpf_map_lookup_elem(&qnames, &scratch->key);
    return value ? count(value) : -1;
}

static __always_inline void swap(void *a, void *b, void *spare, int len) {
    __builtin_memcpy(spare, a, len);
    __builtin_memcpy(a, b, len);
    __builtin_memcpy(b, spare, len);
}

// One's complement: a word of what the checksum covers has changed (RFC 1624, equation 3).
static __always_inline __u16 updated(__u16 sum, __u16 old, __u16 new) {
    __u32 total = (__u16)~sum + (__u16)~old + new;
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    return (__u16)~total;
}

// Makes an answer of the query: TC=1, and back to where it comes from.
static __always_inline int truncate(struct ethhdr *eth, struct udphdr *udp, struct dns *dns) {
    __u8 mac[ETH_ALEN];
    if (dns->flags[0] & QR) return XDP_DROP; // Nobody answers answers.
    __u16 old, new;
    __builtin_memcpy(&old, dns->flags, sizeof(old));
    dns->flags[0] |= QR | TC;
    dns->flags[1] &= (__u8)~AD;
    __builtin_memcpy(&new, dns->flags, sizeof(new));
    if (udp->check) { // 0 is none, over IPv4
        udp->check = updated(udp->check, old, new);
        if (!udp->check) udp->check = 0xffff;
    }
    __be16 port = udp->source;
    udp->source = udp->dest;
    udp->dest = port;
    swap(eth->h_source, eth->h_dest, mac, ETH_ALEN);
    return XDP_TX;
}

SEC("xdp")
int filter(struct xdp_md *ctx) {
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    struct iphdr *ip4 = NULL;
    struct ipv6hdr *ip6 = NULL;
    struct value *value = NULL;
    if ((void *)(eth + 1) > end) return XDP_PASS;
    __be16 proto = eth->h_proto;
    __u32 at = sizeof(*eth);
#pragma unroll
    for (int tags = 0; tags < 2; tags++) {
        if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD)) break;
        struct vlan *vlan = data + at;
        if ((void *)(vlan + 1) > end) return XDP_PASS;
        proto = vlan->proto;
        at += sizeof(*vlan);
    }
    int fragment = 0;
    if (proto == bpf_htons(ETH_P_IP)) {
        ip4 = data + at;
        if ((void *)(ip4 + 1) > end || ip4->protocol != IPPROTO_UDP || ip4->ihl < 5) return XDP_PASS;
        at += ip4->ihl * 4;
        fragment = (ip4->frag_off & bpf_htons(0x1fff)) != 0;
    } else if (proto == bpf_htons(ETH_P_IPV6)) {
        ip6 = data + at;
        if ((void *)(ip6 + 1) > end || ip6->nexthdr != IPPROTO_UDP) return XDP_PASS;
        at += sizeof(*ip6);
    } else {
        return XDP_PASS;
    }
    struct udphdr *udp = data + at;
    if (fragment || (void *)(udp + 1) > end || udp->dest != bpf_htons(53)) return XDP_PASS;
    struct dns *dns = (void *)(udp + 1);
    if ((void *)(dns + 1) > end) return XDP_DROP;

    int action = -1;
    if (ip4) {
        __u32 number = bpf_ntohl(ip4->saddr);
        struct range4_key range = {.len = 32, .address = ip4->saddr};
        value = bpf_map_lookup_elem(&addr_v4, &number);
        if (!value) value = bpf_map_lookup_elem(&cidr4, &range);
    } else if (ip6) {
        struct range6_key range = {.len = 128, .address = ip6->saddr};
        value = bpf_map_lookup_elem(&addr_v6, &range.address);
        if (!value) value = bpf_map_lookup_elem(&cidr6, &range);
    }
    if (value) {
        action = count(value);
    } else {
        __u32 question = at + sizeof(*udp) + sizeof(*dns);
        action = decide_name(ctx, question, (__u64)(end - data) - question);
    }
    if (action == DROP) return XDP_DROP;
    if (action != TRUNCATE) return XDP_PASS;
    if (ip4) {
        __be32 address = ip4->saddr;
        ip4->saddr = ip4->daddr;
        ip4->daddr = address;
    } else if (ip6) {
        struct in6_addr address;
        swap(&ip6->saddr, &ip6->daddr, &address, sizeof(address));
    }
    return truncate(eth, udp, dns);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
