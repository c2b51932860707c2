#include <capstan/client/cli/doctor-disk.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include <kj/io.h>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

constexpr uint64_t LEAST_BYTES = 64 << 20, FEW_BYTES = 1 << 30, MANY_BYTES = uint64_t(10) << 30;
constexpr uint64_t LEAST_INODES = 1'000;
constexpr uint64_t PART = 20;  // less than a twentieth is little

struct Kind {
  uint64_t magic;
  const char* name;
  bool isNetwork = false, isMemory = false;
};
// Numbers that <linux/magic.h> lacks are from the kernel's own sources.
constexpr std::array<Kind, 24> KINDS{{
    {EXT4_SUPER_MAGIC, "ext4"},
    {XFS_SUPER_MAGIC, "xfs"},
    {BTRFS_SUPER_MAGIC, "btrfs"},
    {F2FS_SUPER_MAGIC, "f2fs"},
    {0x2fc12fc1, "zfs"},
    {0xca451a4e, "bcachefs"},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
    {ECRYPTFS_SUPER_MAGIC, "ecryptfs"},
    {TMPFS_MAGIC, "tmpfs", false, true},
    {RAMFS_MAGIC, "ramfs", false, true},
    {MSDOS_SUPER_MAGIC, "vfat"},
    {0x2011bab0, "exfat"},
    {0x5346544e, "ntfs"},
    {0x7366746e, "ntfs3"},
    {FUSE_SUPER_MAGIC, "fuse", true},  // most often sshfs and its like
    {NFS_SUPER_MAGIC, "nfs", true},
    {SMB_SUPER_MAGIC, "smb", true},
    {0xff534d42, "cifs", true},
    {0xfe534d42, "smb2", true},
    {V9FS_MAGIC, "9p", true},
    {0x00c36400, "ceph", true},
    {AFS_SUPER_MAGIC, "afs", true},
    {CODA_SUPER_MAGIC, "coda", true},
    {0x01161970, "gfs2", true},
}};

// A folder for trying things, removed when it goes.
class Scratch {
 public:
  explicit Scratch(const std::string& root) {
    std::string own = root + "/" + std::string(STATE_FOLDER);
    path = (access(own.c_str(), W_OK) == 0 ? own + "/doctor-XXXXXX" : root + "/.capstan-doctor-XXXXXX");
    if (mkdtemp(path.data()) == nullptr) {
      reason = errno;
      path.clear();
    }
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path.empty()) std::filesystem::remove_all(path, ignored);
  }
  KJ_DISALLOW_COPY(Scratch);

  std::string path;
  int reason = 0;  // why there is none
};

void tryAbilities(const std::string& folder, FileSystem& system) {
  kj::AutoCloseFd unnamed(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  system.unnamed = unnamed.get() >= 0;
  std::string names[] = {folder + "/a", folder + "/b"};
  for (auto& name : names) {
    kj::AutoCloseFd made(open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
    if (made.get() < 0) return;
  }
  system.exchanges = renameat2(AT_FDCWD, names[0].c_str(), AT_FDCWD, names[1].c_str(), RENAME_EXCHANGE) == 0;
}

std::optional<Space> spaceAt(const std::string& path) {
  struct statvfs status;
  if (statvfs(path.c_str(), &status) < 0) return std::nullopt;
  return Space{.free = uint64_t(status.f_bavail) * status.f_frsize,
               .total = uint64_t(status.f_blocks) * status.f_frsize,
               .freeInodes = status.f_favail,
               .totalInodes = status.f_files};
}

Finding lookAtSpace(const std::string& what, const std::string& path) {
  auto space = spaceAt(path);
  if (space) return judgeSpace(what, *space);
  return Finding::problem("disk", errorFromErrno(errno, "cannot look at the disk of", path).message,
                          "name a folder that is there");
}

}  // namespace

FileSystem fileSystemOf(uint64_t magic) {
  auto known = std::find_if(KINDS.begin(), KINDS.end(), [magic](const Kind& kind) { return kind.magic == magic; });
  FileSystem system;
  if (known != KINDS.end()) {
    system.kind = known->name;
    system.isNetwork = known->isNetwork;
    system.isMemory = known->isMemory;
  } else {
    char number[24];
    snprintf(number, sizeof(number), "0x%lx", (unsigned long)magic);
    system.kind = number;
  }
  return system;
}

Finding judgeSpace(const std::string& what, const Space& space) {
  const std::string CHECK = "disk";
  const std::string ADVICE = "make room; the trash of sync runs is emptied with capstan trash --empty";
  bool countsInodes = space.totalInodes > 0;
  std::string message = formatSize(space.free) + " of " + formatSize(space.total) + " are free for " + what;
  std::string inodes = std::to_string(space.freeInodes) + " of " + std::to_string(space.totalInodes) +
                       " files (inodes) can still be made for " + what;
  if (space.free < LEAST_BYTES) return Finding::problem(CHECK, message, ADVICE);
  if (countsInodes && space.freeInodes < LEAST_INODES) {
    return Finding::problem(CHECK, inodes, "remove files, or move the folder to another file system");
  }
  if (space.free < FEW_BYTES || (space.free < space.total / PART && space.free < MANY_BYTES)) {
    return Finding::warning(CHECK, message, ADVICE);
  }
  if (countsInodes && space.freeInodes < space.totalInodes / PART) {
    return Finding::warning(CHECK, inodes, "remove files, or move the folder to another file system");
  }
  return Finding::ok(CHECK, message);
}

Finding judgeFileSystem(const std::string& what, const FileSystem& system) {
  const std::string CHECK = "file-system";
  std::string message = what + " is on " + system.kind;
  if (system.isNetwork) {
    return Finding::warning(CHECK,
                            message +
                                ", which may lie on another machine: what that changes is not noticed at once, "
                                "and what is durable is up to it",
                            "serve a folder on a disk of this machine, or run the server on the other");
  }
  if (system.isMemory) {
    return Finding::warning(CHECK, message + ", which is memory: it is empty after the machine's next start",
                            "serve a folder on a disk");
  }
  if (system.exchanges == false) {
    return Finding::warning(
        CHECK,
        message +
            ", which cannot exchange two files: between a check of a version and what follows from it is "
            "a moment in which other programs are not seen",
        "let no other program write there, or use ext4, xfs or btrfs");
  }
  if (system.unnamed == false) {
    return Finding::warning(CHECK,
                            message +
                                ", which has no files without names: what is computed leaves some behind "
                                "when the machine loses power, until the next start",
                            "use ext4, xfs or btrfs");
  }
  return Finding::ok(CHECK, message + ", which does all that is needed");
}

Findings lookAtRoot(const std::string& root) {
  std::string what = "the served folder " + escapeForTerminal(root);
  struct statfs status;
  if (statfs(root.c_str(), &status) < 0) {
    return {Finding::problem("disk", errorFromErrno(errno, "cannot look at the folder to serve,", root).message,
                             "name a folder that is there: capstan doctor ROOT")};
  }
  Findings findings{lookAtSpace(what, root)};
  FileSystem system = fileSystemOf(uint64_t(status.f_type));
  Scratch scratch(root);
  if (scratch.path.empty()) {
    findings.push_back(Finding::problem(
        "file-system", errorFromErrno(scratch.reason, "cannot write into the folder to serve,", root).message,
        "let the user who serves it write there"));
    return findings;
  }
  tryAbilities(scratch.path, system);
  findings.push_back(judgeFileSystem(what, system));
  return findings;
}

Finding lookAtRoomFor(const std::string& stateFolder) {
  std::string place = stateFolder;
  while (access(place.c_str(), F_OK) < 0 && place.find('/') != std::string::npos && place.size() > 1) {
    place.resize(std::max<size_t>(place.rfind('/'), 1));
  }
  return lookAtSpace("the state folder " + escapeForTerminal(stateFolder), place);
}

}  // namespace capstan::cli
