#include <capstan/client/cli/doctor-certificate.h>

#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/doctor-files.h>

namespace capstan::cli {

namespace {

constexpr const char* CHECK = "certificate";
constexpr int64_t DAY = 86'400;
constexpr int64_t SOON = 21 * DAY;  // those who renew by themselves do so before

// Of seconds: in nanoseconds the year 9999 would not fit.
std::string dayOf(int64_t time) {
  time_t seconds = time;
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[16] = {};
  return std::string(text, strftime(text, sizeof(text), "%Y-%m-%d", &parts));
}

// A key that an administrator brings is often root's, and may be read by a group that the service is in.
bool isForServicesGroup(const std::string& key) {
  constexpr mode_t OF_GROUP_AND_OTHERS = 077;
  struct stat status;
  return stat(key.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
         (status.st_mode & OF_GROUP_AND_OTHERS) == S_IRGRP;
}

}  // namespace

Finding judgeCertificate(const rpc::CertificateFacts& facts, int64_t now, const std::string& what, bool isOwn) {
  std::string renew = isOwn
                          ? "remove the file and start the server anew, which makes another; invites that name the old "
                            "one have to be made anew, too"
                          : "renew it, then: systemctl reload capstan, or kill -HUP the server";
  if (facts.notAfter <= now) return Finding::problem(CHECK, what + " has expired on " + dayOf(facts.notAfter), renew);
  if (facts.notBefore > now) {
    return Finding::problem(CHECK, what + " is not valid before " + dayOf(facts.notBefore),
                            "see to the clock of this machine, or wait");
  }
  std::string message = what + " is valid until " + dayOf(facts.notAfter);
  if (facts.notAfter - now < SOON) {
    return Finding::warning(CHECK, message + ", which is soon", renew);
  }
  return Finding::ok(CHECK, message);
}

Finding lookAtCertificate(const std::string& stateFolder, const std::optional<std::string>& certificateFile,
                          const std::optional<std::string>& keyFile) {
  bool isOwn = !certificateFile;
  std::string file = certificateFile.value_or(stateFolder + "/" + rpc::IDENTITY_FILE), key = keyFile.value_or(file);
  if (isOwn && access(file.c_str(), F_OK) < 0) {
    return Finding::ok(CHECK, "there is no certificate yet; the first start makes one");
  }
  uid_t owner = isOwn ? expectedOwnerOf(stateFolder) : geteuid();
  auto secret = lookAtSecret(CHECK, "the key", key, owner, true);
  if (secret->state != Finding::State::OK && (isOwn || !isForServicesGroup(key))) return *secret;
  std::string what = "the certificate in " + escapeForTerminal(file);
  std::string replace = isOwn ? "remove the file; the next start makes another" : "name files that belong together";
  auto text = readFile(file, rpc::MAX_CERTIFICATE_BYTES);
  if (!text.ok()) return Finding::problem(CHECK, text.error().message, replace);
  auto facts = rpc::factsOf(*text, what);
  if (!facts.ok()) return Finding::problem(CHECK, facts.error().message, replace);
  Finding dates = judgeCertificate(*facts, time(nullptr), what, isOwn);
  if (dates.state == Finding::State::PROBLEM) return dates;
  auto pair = rpc::TlsIdentity::load(file, key);
  return pair.ok() ? dates : Finding::problem(CHECK, pair.error().message, replace);
}

}  // namespace capstan::cli
