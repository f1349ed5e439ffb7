/* shared.cc -- shared memory: dynamic, static, and the copies on their way into it.
 *
 * Static __shared__ variables are thread-local variables inside functions. C++ has no way to list those, but
 * this module's own symbol table has: their names begin with _ZZ, and the table says where in the module's
 * thread-local segment each one lies. */
#include "machine_internal.h"

#include "report.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cuda_host
{

struct extent {
    size_t offset, bytes;
};

/* This module: where it lies, and the calling thread's copy of its thread-local segment. */
struct module_place {
    uintptr_t inside; /* an address of it, to look for */
    std::string path;
    unsigned char *segment;
    size_t segment_bytes;
};

static int look_at_module(struct dl_phdr_info *info, size_t, void *data)
{
    module_place *place = static_cast<module_place *>(data);
    bool found = false;
    size_t bytes = 0;

    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &p = info->dlpi_phdr[i];
        const uintptr_t start = info->dlpi_addr + p.p_vaddr;
        if (p.p_type == PT_LOAD && place->inside >= start && place->inside - start < p.p_memsz)
            found = true;
        if (p.p_type == PT_TLS)
            bytes = p.p_memsz;
    }
    if (!found)
        return 0;
    place->path = info->dlpi_name[0] != 0 ? info->dlpi_name : "/proc/self/exe";
    place->segment = static_cast<unsigned char *>(info->dlpi_tls_data);
    place->segment_bytes = bytes;
    return 1;
}

static module_place find_module()
{
    module_place place = {reinterpret_cast<uintptr_t>(&look_at_module), "", nullptr, 0};
    if (dl_iterate_phdr(look_at_module, &place) == 0)
        fatal("this module was not found among those that are loaded");
    return place;
}

static void read_symbols(const unsigned char *file, std::vector<extent> &out)
{
    const ElfW(Ehdr) *head = reinterpret_cast<const ElfW(Ehdr) *>(file);
    const ElfW(Shdr) *sections = reinterpret_cast<const ElfW(Shdr) *>(file + head->e_shoff);
    bool table = false;

    for (int i = 0; i < head->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB)
            continue;
        table = true;
        const ElfW(Sym) *symbols = reinterpret_cast<const ElfW(Sym) *>(file + sections[i].sh_offset);
        const char *names = reinterpret_cast<const char *>(file + sections[sections[i].sh_link].sh_offset);
        for (size_t j = 0; j < sections[i].sh_size / sizeof(ElfW(Sym)); j++)
            if (ELF64_ST_TYPE(symbols[j].st_info) == STT_TLS &&
                std::strncmp(names + symbols[j].st_name, "_ZZ", 3) == 0)
                out.push_back({symbols[j].st_value, symbols[j].st_size});
    }
    if (!table)
        fatal("this module was stripped: without symbols, static shared memory cannot be found");
}

static std::vector<extent> find_variables()
{
    std::vector<extent> variables;
    const std::string path = find_module().path;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0)
        fatal("cannot read %s", path.c_str());
    const size_t bytes = static_cast<size_t>(info.st_size);
    void *file = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        fatal("cannot map %s", path.c_str());
    read_symbols(static_cast<const unsigned char *>(file), variables);
    munmap(file, bytes);
    return variables;
}

static const std::vector<extent> &static_variables()
{
    static const std::vector<extent> variables = find_variables();
    return variables;
}

static thread_local unsigned char *own_segment;

static unsigned char *static_segment()
{
    if (own_segment == nullptr)
        own_segment = find_module().segment;
    return own_segment;
}

__attribute__((no_sanitize_address)) void spoil_static_shared()
{
    for (const extent &e : static_variables())
        std::memset(static_segment() + e.offset, 0xff, e.bytes);
}

bool is_static_shared(const void *p, size_t bytes)
{
    for (const extent &e : static_variables()) {
        const unsigned char *start = static_segment() + e.offset;
        if (p >= start && static_cast<const unsigned char *>(p) + bytes <= start + e.bytes)
            return true;
    }
    return false;
}

void *machine::shared_dynamic(size_t alignment, site where)
{
    if (shared_ == nullptr)
        kernel_fault(where, "the kernel uses dynamic shared memory and was launched without any");
    if (alignment > 128)
        kernel_fault(where, "dynamic shared memory is aligned to 128 bytes, not to %zu", alignment);
    return shared_;
}

bool machine::is_shared(const void *p, size_t bytes) const
{
    const unsigned char *c = static_cast<const unsigned char *>(p);
    if (shared_ != nullptr && c >= shared_ && c + bytes <= shared_ + grid_->shared_bytes)
        return true;
    return is_static_shared(p, bytes);
}

/* ---- asynchronous copies ------------------------------------------------------------------------------- */

void machine::copy_later(void *shared, const void *global, unsigned bytes, unsigned source_bytes, site where)
{
    if (!is_shared(shared, bytes))
        kernel_fault(where, "an asynchronous copy of %u bytes to what is not shared memory", bytes);
    if (reinterpret_cast<uintptr_t>(shared) % bytes != 0 || reinterpret_cast<uintptr_t>(global) % bytes != 0)
        kernel_fault(where,
                     "an asynchronous copy of %u bytes, from or to an address that is not aligned to them",
                     bytes);
    if (source_bytes > bytes)
        kernel_fault(where, "an asynchronous copy of %u bytes from %u", bytes, source_bytes);
    device_thread &t = threads_[current_];
    pending_copy copy = {static_cast<unsigned char *>(shared), {}, bytes, t.groups};
    if (source_bytes > 0)
        std::memcpy(copy.bytes, global, source_bytes);
    t.copies.push_back(copy);
    /* It may land at any time from now on: who still reads the old bytes, or already the new, is wrong. */
    std::memset(shared, 0xff, bytes);
}

void machine::copies_commit()
{
    threads_[current_].groups++;
}

void machine::copies_wait(unsigned groups_left)
{
    device_thread &t = threads_[current_];
    const auto lands = [&t, groups_left](const pending_copy &c) { return c.group + groups_left < t.groups; };

    for (const pending_copy &c : t.copies)
        if (lands(c))
            std::memcpy(c.to, c.bytes, c.count);
    t.copies.erase(std::remove_if(t.copies.begin(), t.copies.end(), lands), t.copies.end());
}

void *shared_dynamic(size_t alignment, site where)
{
    if (!this_machine().running())
        kernel_fault(where, "device code was called outside a kernel");
    return this_machine().shared_dynamic(alignment, where);
}

bool is_shared(const void *p, size_t bytes)
{
    return this_machine().is_shared(p, bytes);
}

void copy_later(void *shared, const void *global, unsigned bytes, unsigned source_bytes, site where)
{
    this_machine().copy_later(shared, global, bytes, source_bytes, where);
}

void copies_commit()
{
    this_machine().copies_commit();
}

void copies_wait(unsigned groups_left)
{
    this_machine().copies_wait(groups_left);
}

} // namespace cuda_host
