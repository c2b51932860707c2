#include <capstan/client/cli/doctor-files.h>

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>

#include <kj/debug.h>
#include <kj/io.h>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>
#include <capstan/client/cli/server-choice.h>

namespace capstan::cli {

namespace {

constexpr size_t TOKEN_FILE_LIMIT = 4096;
constexpr mode_t OF_OTHERS = 077;
constexpr mode_t WRITING_OF_OTHERS = 022;

std::string modeText(mode_t mode) {
  char text[8];
  snprintf(text, sizeof(text), "%04o", unsigned(mode & 07777));
  return text;
}

std::string shown(const std::string& path) { return escapeForTerminal(path); }

// Whether root, as another user, may write into a folder. Who that one may pass on the way to it does not count: a
// service may have it elsewhere.
bool mayWriteAs(uid_t user, gid_t group, const std::string& folder) {
  kj::AutoCloseFd fd(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return true;  // is looked at with the disk
  gid_t before[NGROUPS_MAX], ownGroup = getegid();
  int count = getgroups(NGROUPS_MAX, before);
  const passwd* known = getpwuid(user);
  bool isMember = known != nullptr && initgroups(known->pw_name, known->pw_gid) == 0;
  bool may = true;
  if (count >= 0 && (isMember || setgroups(0, nullptr) == 0)) {
    if (setegid(isMember ? known->pw_gid : group) == 0) {
      if (seteuid(user) == 0) {
        may = faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) == 0 || errno != EACCES;
        KJ_SYSCALL(seteuid(0));
      }
      KJ_SYSCALL(setegid(ownGroup));
    }
    KJ_SYSCALL(setgroups(size_t(count), before));
  }
  return may;
}

}  // namespace

uid_t expectedOwnerOf(const std::string& stateFolder) {
  struct stat status;
  if (geteuid() != 0 || stat(stateFolder.c_str(), &status) < 0) return geteuid();
  return status.st_uid;
}

Finding lookAtState(const std::string& folder) {
  const std::string CHECK = "state", name = "the state folder " + shown(folder);
  struct stat status;
  if (stat(folder.c_str(), &status) < 0) {
    if (errno == ENOENT) return Finding::ok(CHECK, name + " is not there yet; the first start makes it");
    return Finding::problem(CHECK, errorFromErrno(errno, "cannot look at the state folder", folder).message,
                            "let this user in, or choose another folder with --state");
  }
  if (!S_ISDIR(status.st_mode)) {
    return Finding::problem(CHECK, name + " is no folder", "remove it, or choose another with --state");
  }
  if (geteuid() != 0 && status.st_uid != geteuid()) {
    return Finding::problem(CHECK, name + " belongs to another user (" + std::to_string(status.st_uid) + ")",
                            "choose another with --state, or run as that user");
  }
  std::string mode = "others may ", chmod = "run: chmod 700 " + shown(folder);
  if (status.st_mode & WRITING_OF_OTHERS) {
    return Finding::problem(CHECK, mode + "write into " + name + " (mode " + modeText(status.st_mode) + ")", chmod);
  }
  if (status.st_mode & OF_OTHERS) {
    return Finding::warning(CHECK, mode + "enter " + name + " (mode " + modeText(status.st_mode) + ")", chmod);
  }
  if (access(folder.c_str(), R_OK | W_OK | X_OK) < 0) {
    return Finding::problem(CHECK, errorFromErrno(errno, "cannot write into the state folder", folder).message, chmod);
  }
  return Finding::ok(CHECK, name + " is for its owner alone");
}

std::optional<Finding> lookAtSecret(const std::string& check, const std::string& what, const std::string& path,
                                    uid_t owner, bool needed) {
  std::string name = what + " in " + shown(path);
  struct stat status;
  if (stat(path.c_str(), &status) < 0) {
    if (errno == ENOENT && !needed) return std::nullopt;
    return Finding::problem(check, errorFromErrno(errno, "cannot look at " + what + " in", path).message,
                            errno == ENOENT ? "name another file, or ask whoever runs the server for a new one"
                                            : "let this user read it, or run as its owner");
  }
  if (!S_ISREG(status.st_mode)) return Finding::problem(check, name + " is no file", "name another file");
  if (status.st_uid != owner) {
    return Finding::problem(check,
                            name + " belongs to another user (" + std::to_string(status.st_uid) + "), who knows it",
                            "make a file of your own; a server makes new secrets where there are none");
  }
  if (status.st_mode & OF_OTHERS) {
    return Finding::problem(check, "others may use " + name + " (mode " + modeText(status.st_mode) + ")",
                            "run: chmod 600 " + shown(path));
  }
  return Finding::ok(check, name + " is for its owner alone");
}

Finding lookAtOwnerToken(const std::string& stateFolder) {
  const std::string CHECK = "token";
  std::string path = stateFolder + "/" + OWNER_TOKEN_FILE;
  auto found = lookAtSecret(CHECK, "the owner's token", path, expectedOwnerOf(stateFolder), false);
  if (!found) return Finding::ok(CHECK, "there is no owner's token yet; the first start makes one");
  if (found->state != Finding::State::OK) return *found;
  auto text = readFile(path, TOKEN_FILE_LIMIT);
  if (text.ok() && parseToken(*text, path).ok()) return *found;
  std::string reason =
      text.ok() ? "the owner's token in " + shown(path) + " does not have 64 hex digits" : text.error().message;
  return Finding::problem(CHECK, reason, "remove the file; the next start makes a new token");
}

std::optional<Finding> lookAtOwnerOf(const std::string& root, const std::string& stateFolder) {
  struct stat state, served;
  if (geteuid() != 0 || stat(stateFolder.c_str(), &state) < 0 || state.st_uid == 0) return std::nullopt;
  if (stat(root.c_str(), &served) < 0 || mayWriteAs(state.st_uid, state.st_gid, root)) return std::nullopt;
  std::string user = std::to_string(state.st_uid), its = std::to_string(served.st_uid);
  return Finding::warning("owner",
                          "the user whom the state folder belongs to (" + user +
                              ") may not write into the served folder " + shown(root) + ", which is of user " + its +
                              " (mode " + modeText(served.st_mode) + ")",
                          "serve it as a user who may: User= in the service's unit, or chown");
}

}  // namespace capstan::cli
