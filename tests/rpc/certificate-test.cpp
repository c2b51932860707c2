#include <capstan/rpc/certificate.h>

#include <sys/stat.h>

#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>

#include <capstan/base/base64url.h>

#include "../storage/temp-folder.h"

namespace capstan::rpc {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=Example CA" -addext
// basicConstraints=critical,CA:TRUE -days -1, with its fingerprint by
// openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | basenc --base64url
constexpr const char* EXPIRED_CERTIFICATE =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBXzCCAQSgAwIBAgIUNXX7yy9P+FqbI7iBwwGgDgUn7gowCgYIKoZIzj0EAwIw\n"
    "FTETMBEGA1UEAwwKRXhhbXBsZSBDQTAeFw0yNjExMjExOTI2NDBaFw0yNjExMjAx\n"
    "OTI2NDBaMBUxEzARBgNVBAMMCkV4YW1wbGUgQ0EwWTATBgcqhkjOPQIBBggqhkjO\n"
    "PQMBBwNCAATLYICRooqDDt0MYz/4HQB0/mgz7bkTQvTweQ6F2sAC49Md3eSF4na3\n"
    "qXeLwaRCMiLiiPm+8eD0OPCd2fj10PyTozIwMDAPBgNVHRMBAf8EBTADAQH/MB0G\n"
    "A1UdDgQWBBTkbNu2qDxfn8vBWPFB6Rrjhe4faTAKBggqhkjOPQQDAgNJADBGAiEA\n"
    "kCngpQVGKdq59qpmxWPEZuxVUgiYWRM+wjc04xz129MCIQD6afhvRHPwD4JXu1sz\n"
    "0uic0qTuEqb+HYB8VkLidtVfCA==\n"
    "-----END CERTIFICATE-----\n";
constexpr const char* EXPIRED_KEY =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAvJj7btzK0yvLEfJ\n"
    "OcACJtrzZmfQRnVWyC0oM+RuCtWhRANCAATLYICRooqDDt0MYz/4HQB0/mgz7bkT\n"
    "QvTweQ6F2sAC49Md3eSF4na3qXeLwaRCMiLiiPm+8eD0OPCd2fj10PyT\n"
    "-----END PRIVATE KEY-----\n";
constexpr const char* EXPIRED_FINGERPRINT = "dJ7n-JkZNKolJ_y5arqw-RxlfvB15XLfI8pyLtzRS90";

struct Folder {
  storage::TempFolder base;

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) {
    std::string path = base / name;
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
};

TlsIdentity made() {
  auto identity = TlsIdentity::make();
  EXPECT_TRUE(identity.ok());
  return identity.ok() ? std::move(*identity) : TlsIdentity{};
}

TEST(Certificate, TellsTheFingerprintThatOtherToolsTell) {
  auto fingerprint = fingerprintOf(EXPIRED_CERTIFICATE);
  ASSERT_TRUE(fingerprint.ok()) << fingerprint.error().message;
  EXPECT_EQ(*fingerprint, EXPIRED_FINGERPRINT);
  auto facts = factsOf(EXPIRED_CERTIFICATE, "it");
  EXPECT_TRUE(facts->isAuthority);
  EXPECT_TRUE(facts->isSelfSigned);
  EXPECT_EQ(facts->name, "");
  EXPECT_LT(facts->notAfter, time(nullptr));
}

TEST(Certificate, OneThatAServerMakesIsForOneNameAndForEver) {
  TlsIdentity identity = made();
  auto facts = factsOf(identity.certificate, "it");
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->name, "capstan");
  EXPECT_TRUE(facts->isSelfSigned);
  EXPECT_FALSE(facts->isAuthority);
  EXPECT_EQ(facts->fingerprint, identity.fingerprint);
  EXPECT_EQ(identity.fingerprint.size(), 43u);
  EXPECT_LT(facts->notBefore, 1'000'000'000);
  EXPECT_GT(facts->notAfter, 250'000'000'000);
  EXPECT_NE(made().fingerprint, identity.fingerprint);
}

TEST(Certificate, IsMadeOnceAndStaysInAFileThatOthersCannotRead) {
  Folder folder;
  auto first = TlsIdentity::loadOrMake(folder.base.path());
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_THAT(first->certificate, Not(HasSubstr("PRIVATE")));
  auto second = TlsIdentity::loadOrMake(folder.base.path());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(first->certificate, second->certificate);
  struct stat status;
  ASSERT_EQ(stat((folder.base / "tls.pem").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST(Certificate, ServersThatStartTogetherEndWithTheSame) {
  Folder folder;
  std::vector<std::string> found(8);
  std::vector<std::thread> threads;
  for (auto& each : found) {
    threads.emplace_back([&]() {
      auto identity = TlsIdentity::loadOrMake(folder.base.path());
      each = identity.ok() ? identity->fingerprint : identity.error().message;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(found, testing::Each(found[0]));
  EXPECT_EQ(found[0].size(), 43u);
}

TEST(Certificate, AKeyThatOthersMayReadIsDeniedWithTheWayOut) {
  Folder folder;
  ASSERT_TRUE(TlsIdentity::loadOrMake(folder.base.path()).ok());
  chmod((folder.base / "tls.pem").c_str(), 0644);
  auto identity = TlsIdentity::loadOrMake(folder.base.path());
  ASSERT_FALSE(identity.ok());
  EXPECT_EQ(identity.error().code, ErrorCode::DENIED);
  EXPECT_THAT(identity.error().message, HasSubstr("chmod 600"));
}

TEST(Certificate, ADamagedFileIsNotReplacedButNamed) {
  Folder folder;
  folder.write("tls.pem", "no key");
  auto identity = TlsIdentity::loadOrMake(folder.base.path());
  ASSERT_FALSE(identity.ok());
  EXPECT_EQ(identity.error().code, ErrorCode::CORRUPT);
  EXPECT_THAT(identity.error().message, HasSubstr("tls.pem"));
}

TEST(Certificate, OwnFilesAreTakenAlsoFromOneFile) {
  Folder folder;
  TlsIdentity identity = made(), other = made();
  std::string chain = folder.write("chain.pem", "Some words\n" + identity.certificate + other.certificate);
  auto loaded = TlsIdentity::load(chain, folder.write("key.pem", identity.key));
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded->fingerprint, identity.fingerprint);
  EXPECT_EQ(loaded->certificate, identity.certificate + other.certificate);
  std::string both = folder.write("both.pem", identity.key + identity.certificate);
  loaded = TlsIdentity::load(both, both);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded->certificate, identity.certificate);
}

TEST(Certificate, OwnFilesThatCannotWorkAreNamedWithTheReason) {
  Folder folder;
  TlsIdentity identity = made(), other = made();
  std::string certificate = folder.write("c.pem", identity.certificate), key = folder.write("k.pem", identity.key);
  struct Row {
    std::string certificate, key, sentence;
  };
  std::string locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
  for (auto& row :
       {Row{folder.base / "none.pem", key, "none.pem"},
        {certificate, folder.base / "none.pem", "none.pem"},
        {certificate, folder.write("other.pem", other.key), "does not belong to the certificate in"},
        {certificate, certificate, "is not a private key"},
        {key, key, "is not a certificate"},
        {certificate, folder.write("locked.pem", locked), "password"},
        {folder.write("big.pem", std::string(100'000, 'x')), key, "big.pem"},
        {folder.write("old.pem", EXPIRED_CERTIFICATE), folder.write("oldkey.pem", EXPIRED_KEY), "expired"}}) {
    auto loaded = TlsIdentity::load(row.certificate, row.key);
    ASSERT_FALSE(loaded.ok()) << row.sentence;
    EXPECT_THAT(loaded.error().message, HasSubstr(row.sentence));
    EXPECT_EQ(ERR_peek_error(), 0u) << "nothing is left behind for other users of OpenSSL on this thread";
  }
}

TEST(Certificate, WhatIsNoneIsAnErrorWhateverItIs) {
  std::string good = made().certificate;
  for (size_t size = 0; size < good.size() - 26; size += 7) EXPECT_FALSE(factsOf(good.substr(0, size), "it").ok());
  for (size_t i = 0; i < good.size(); i += 5) {
    std::string damaged = good;
    damaged[i] ^= 4;
    (void)factsOf(damaged, "it").ok();
    EXPECT_EQ(ERR_peek_error(), 0u);
  }
  EXPECT_THAT(factsOf("", "this").error().message, StartsWith("this is not a certificate"));
}

}  // namespace
}  // namespace capstan::rpc
