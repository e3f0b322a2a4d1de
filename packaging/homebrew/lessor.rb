# Filled in by .ci/package. It builds from source, on macOS and Linux.
class Lessor < Formula
  desc "Leases LLM accounts to coding agents that run in parallel"
  homepage "@REPOSITORY@"
  url "@URL@"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", "--profile", "dist", *std_cargo_args
    system bin/"lessor", "man", "--dir", man1
    generate_completions_from_executable(bin/"lessor", "completions", shells: [:bash, :zsh, :fish])
  end

  def caveats
    <<~EOS
      The first command that needs the daemon starts it. To start it at login, and again after a failure:
        lessor service install
    EOS
  end

  test do
    assert_equal "lessor #{version}", shell_output("#{bin}/lessor --version").strip
    # offline, with a daemon in a temporary directory
    system bin/"lessor", "demo", "--seconds", "5"
  end
end
