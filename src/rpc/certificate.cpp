#include <capstan/rpc/certificate.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include <capstan/base/base64url.h>
#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/rpc/openssl.h>

namespace capstan::rpc {

namespace {

// For ever, as far as X.509 can say it (RFC 5280, 4.1.2.5), and from a day before the clock of any machine that
// could be asked: the certificate is known to those who trust it, and no date makes it worse.
constexpr const char* VALID_FROM = "20000101000000Z";
constexpr const char* VALID_UNTIL = "99991231235959Z";

constexpr size_t SERIAL_BYTES = 16;

std::string sentence(std::string_view what, std::string_view rest) {
  return std::string(what).append(" ").append(rest);
}

Error wrong(std::string_view what, std::string_view rest) {
  return {ErrorCode::INVALID_ARGUMENT, sentence(what, rest), {}};
}

// A password is asked for by nobody: a server starts without anybody at the keyboard.
int noPassword(char*, int, int, void*) { return -1; }

int64_t secondsOf(const ASN1_TIME* time) {
  tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? int64_t(timegm(&parts)) : 0;
}

std::string textOf(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, size_t(size)) : std::string();
}

Result<OwnCertificate> readCertificate(std::string_view pem, std::string_view what) {
  if (pem.size() > MAX_CERTIFICATE_BYTES) return wrong(what, "is too long to be one");
  OwnBio bio = bioOf(pem);
  OwnCertificate certificate(PEM_read_bio_X509(bio.get(), nullptr, noPassword, nullptr));
  if (certificate == nullptr) return wrong(what, "is not a certificate in PEM (-----BEGIN CERTIFICATE-----)");
  return certificate;
}

std::string fingerprintOf(X509* certificate) {
  unsigned char* der = nullptr;
  int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) return {};
  std::string bytes(reinterpret_cast<char*>(der), size_t(size));
  OPENSSL_free(der);
  return toBase64Url(digestOf(DigestAlgorithm::SHA256, bytes));
}

// TLS compares host names: of a wildcard any name that it covers will do.
std::string dnsNameIn(X509* certificate) {
  std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* each = sk_GENERAL_NAME_value(names.get(), i);
    if (each->type != GEN_DNS) continue;
    std::string name(reinterpret_cast<const char*>(ASN1_STRING_get0_data(each->d.dNSName)),
                     size_t(ASN1_STRING_length(each->d.dNSName)));
    if (name.find('\0') != std::string::npos) continue;
    return name.starts_with("*.") ? "any" + name.substr(1) : name;
  }
  return {};
}

bool addExtension(X509* certificate, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, FreeWith<X509_EXTENSION_free>> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool setSerial(X509* certificate) {
  std::string bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = char((bytes[0] & 0x3f) | 0x40);  // positive, and of one length
  std::unique_ptr<BIGNUM, FreeWith<BN_free>> number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), int(bytes.size()), nullptr));
  return number != nullptr && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

// Everything that can fail here fails for lack of memory or of random numbers.
OwnCertificate selfSigned(EVP_PKEY* key) {
  OwnCertificate certificate(X509_new());
  X509* x = certificate.get();
  if (x == nullptr || X509_set_version(x, 2) != 1 || !setSerial(x)) return nullptr;  // 2 means version 3
  X509_NAME* name = X509_get_subject_name(x);
  auto bytes = reinterpret_cast<const unsigned char*>(OWN_CERTIFICATE_NAME);
  bool made = X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, bytes, -1, -1, 0) == 1 &&
              X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
              ASN1_TIME_set_string_X509(X509_getm_notBefore(x), VALID_FROM) == 1 &&
              ASN1_TIME_set_string_X509(X509_getm_notAfter(x), VALID_UNTIL) == 1 &&
              addExtension(x, NID_subject_alt_name, (std::string("DNS:") + OWN_CERTIFICATE_NAME).c_str()) &&
              addExtension(x, NID_basic_constraints, "critical,CA:FALSE") &&
              addExtension(x, NID_ext_key_usage, "serverAuth") && X509_sign(x, key, EVP_sha256()) > 0;
  return made ? std::move(certificate) : nullptr;
}

// Puts a key and certificate there unless there is a file: link() answers EEXIST where rename() would replace.
Status makeIfMissing(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) == 0) return okStatus();
  auto made = TlsIdentity::make();
  if (!made.ok()) return made.error();
  std::string temporary = path + ".new-" + toHex(randomBytes(6));
  auto written = writeFileAtomically(temporary, made->key + made->certificate, 0600);
  if (!written.ok()) return written;
  int linked = link(temporary.c_str(), path.c_str());
  int reason = errno;
  unlink(temporary.c_str());
  if (linked < 0 && reason != EEXIST) return errorFromErrno(reason, "cannot make the TLS key", path);
  return okStatus();
}

Status checkPrivate(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) < 0) return errorFromErrno(errno, "cannot read the TLS key", path);
  if (status.st_uid != geteuid()) {
    return errorAt(ErrorCode::DENIED, path, "the TLS key ",
                   " belongs to another user, who may know it; choose another folder with --state");
  }
  if ((status.st_mode & 077) != 0) {
    return errorAt(ErrorCode::DENIED, path, "others may read the TLS key ", "; run: chmod 600 on it");
  }
  return okStatus();
}

std::string placeOf(const char* what, const std::string& file) {
  return std::string("the ") + what + " in " + escapeForTerminal(file);
}

Status checkDates(const CertificateFacts& facts, const std::string& what) {
  int64_t now = time(nullptr);
  if (facts.notAfter < now) return wrong(what, "has expired; put a new one there");
  if (facts.notBefore > now) return wrong(what, "is not valid yet; is the clock of this machine right?");
  return okStatus();
}

Status checkFit(std::string_view certificatePem, std::string_view keyPem, const std::string& certificateName,
                const std::string& keyName) {
  auto certificate = readCertificate(certificatePem, certificateName);
  if (!certificate.ok()) return certificate.error();
  if (keyPem.find("ENCRYPTED") != std::string_view::npos) {
    return wrong(keyName, "is protected by a password, and a server starts without anybody who could type it");
  }
  OwnBio bio = bioOf(keyPem);
  OwnKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, noPassword, nullptr));
  if (key == nullptr) return wrong(keyName, "is not a private key in PEM");
  if (X509_check_private_key(certificate->get(), key.get()) != 1) {
    return wrong(keyName, "does not belong to " + certificateName);
  }
  return okStatus();
}

Result<TlsIdentity> identityOf(std::string certificate, std::string key, const std::string& certificateName,
                               const std::string& keyName) {
  ErrorsForgotten forgotten;
  auto facts = factsOf(certificate, certificateName);
  if (!facts.ok()) return facts.error();
  auto fit = checkFit(certificate, key, certificateName, keyName);
  if (fit.ok()) fit = checkDates(*facts, certificateName);
  if (!fit.ok()) return fit.error();
  // What is shown and copied into invites must not have the key in it.
  std::string bare;
  for (const std::string& each : certificatesIn(certificate)) bare += each;
  return TlsIdentity{std::move(bare), std::move(key), facts->fingerprint};
}

}  // namespace

Result<CertificateFacts> factsOf(std::string_view pem, std::string_view what) {
  ErrorsForgotten forgotten;
  auto certificate = readCertificate(pem, what);
  if (!certificate.ok()) return certificate.error();
  X509* x = certificate->get();
  CertificateFacts facts;
  facts.fingerprint = fingerprintOf(x);
  if (facts.fingerprint.empty()) return wrong(what, "has no key in it");
  facts.name = dnsNameIn(x);
  facts.isSelfSigned = X509_self_signed(x, 0) == 1;
  facts.isAuthority = X509_check_ca(x) != 0;
  facts.notBefore = secondsOf(X509_get0_notBefore(x));
  facts.notAfter = secondsOf(X509_get0_notAfter(x));
  return facts;
}

Result<std::string> fingerprintOf(std::string_view pem) {
  auto facts = factsOf(pem, "what was given");
  if (!facts.ok()) return facts.error();
  return std::move(facts->fingerprint);
}

std::vector<std::string> certificatesIn(std::string_view pem) {
  constexpr std::string_view BEGIN = "-----BEGIN CERTIFICATE-----", END = "-----END CERTIFICATE-----";
  std::vector<std::string> found;
  while (true) {
    size_t begin = pem.find(BEGIN);
    size_t end = begin == std::string_view::npos ? begin : pem.find(END, begin);
    if (end == std::string_view::npos) return found;
    end += END.size();
    found.push_back(std::string(pem.substr(begin, end - begin)) + "\n");
    pem.remove_prefix(end);
  }
}

Result<TlsIdentity> TlsIdentity::make() {
  ErrorsForgotten forgotten;
  // P-256: every TLS library knows it, and it signs faster than Ed25519 does in OpenSSL.
  OwnKey key(EVP_EC_gen("P-256"));
  OwnCertificate certificate = key == nullptr ? nullptr : selfSigned(key.get());
  OwnBio keyText(BIO_new(BIO_s_mem())), certificateText(BIO_new(BIO_s_mem()));
  if (certificate == nullptr || keyText == nullptr || certificateText == nullptr ||
      PEM_write_bio_PKCS8PrivateKey(keyText.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      PEM_write_bio_X509(certificateText.get(), certificate.get()) != 1) {
    return Error{ErrorCode::IO, "OpenSSL could not make a key and certificate for TLS", {}};
  }
  TlsIdentity identity{textOf(certificateText.get()), textOf(keyText.get()), {}};
  identity.fingerprint = fingerprintOf(certificate.get());
  return identity;
}

Result<TlsIdentity> TlsIdentity::loadOrMake(const std::string& stateFolder) {
  std::string path = stateFolder + "/" + IDENTITY_FILE;
  auto usable = makeIfMissing(path);
  if (usable.ok()) usable = checkPrivate(path);
  if (!usable.ok()) return usable.error();
  auto text = readFile(path, MAX_CERTIFICATE_BYTES);
  if (!text.ok()) return text.error();
  auto identity = identityOf(*text, *text, placeOf("certificate", path), placeOf("key", path));
  if (identity.ok()) return identity;
  return Error{ErrorCode::CORRUPT,
               identity.error().message +
                   "; remove the file, and the next start makes a new one (invites that were "
                   "given out end with the old one)",
               path};
}

Result<TlsIdentity> TlsIdentity::load(const std::string& certificateFile, const std::string& keyFile) {
  auto certificate = readFile(certificateFile, MAX_CERTIFICATE_BYTES);
  if (!certificate.ok()) return certificate.error();
  auto key = readFile(keyFile, MAX_CERTIFICATE_BYTES);
  if (!key.ok()) return key.error();
  return identityOf(std::move(*certificate), std::move(*key), placeOf("certificate", certificateFile),
                    placeOf("key", keyFile));
}

}  // namespace capstan::rpc
