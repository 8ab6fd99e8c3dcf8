// Runs the main methods of Kafka's command-line tools one after another in one JVM, because starting a JVM costs more
// than most tools do. It speaks the frame of ../README.md with one command, `run` {`main`, `args`, `input`}, answered
// with {`status`, `out`, `err`}: what a shell would see of the process.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FilterInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.common.utils.internals.AppInfoParser;
import org.apache.kafka.common.utils.internals.Exit;

public final class ToolHost {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int RUNNING = -1;
    private static final int HOOK_TIMEOUT_MS = 30_000;

    // Scala's Console and some tools keep the streams that they find first, so these stay and what is behind changes.
    private static final Switch OUT = new Switch();
    private static final Switch ERR = new Switch();
    private static final Feed IN = new Feed();
    private static final AtomicInteger STATUS = new AtomicInteger();
    // What a tool wants done when its process ends: the console producer sends its last records there.
    private static final List<Runnable> HOOKS = new CopyOnWriteArrayList<>();

    public static void main(String[] args) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = System.out;
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERR, true, StandardCharsets.UTF_8));
        System.setIn(IN);
        Exit.setExitProcedure((status, message) -> exit(status));
        Exit.setHaltProcedure((status, message) -> exit(status));
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        String line;
        while ((line = commands.readLine()) != null) {
            JsonNode command = JSON.readTree(line);
            ObjectNode reply = JSON.createObjectNode().put("id", command.get("id").asLong());
            if (command.get("op").asText().equals("hello")) {
                reply.putObject("ok").put("client", "kafka-tools").put("version", AppInfoParser.getVersion());
            } else {
                run(command, reply.putObject("ok"));
            }
            answers.println(reply);
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void run(JsonNode command, ObjectNode told) throws ReflectiveOperationException {
        Set<Thread> registered = registeredHooks();
        String[] args = new String[command.get("args").size()];
        for (int i = 0; i < args.length; i++) {
            args[i] = command.get("args").get(i).asText();
        }
        Properties before = (Properties) System.getProperties().clone();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        OUT.to(out);
        ERR.to(err);
        IN.from(command.get("input").asText());
        STATUS.set(RUNNING);
        try {
            Class.forName(command.get("main").asText()).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException error) {
            if (!(error.getCause() instanceof Exited)) {
                error.getCause().printStackTrace();
                STATUS.compareAndSet(RUNNING, 1);
            }
        } catch (ReflectiveOperationException error) {
            error.printStackTrace();
            STATUS.compareAndSet(RUNNING, 1);
        }
        STATUS.compareAndSet(RUNNING, 0);
        runHooks(registered);
        System.setProperties(before);
        System.out.flush();
        System.err.flush();
        told.put("status", STATUS.get());
        told.put("out", out.toString(StandardCharsets.UTF_8));
        told.put("err", err.toString(StandardCharsets.UTF_8));
    }

    // Some tools go past Exit, so the JVM's own list is opened to us on the command line.
    private static Set<Thread> registeredHooks() throws ReflectiveOperationException {
        Field hooks = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        hooks.setAccessible(true);
        Set<Thread> threads = new HashSet<>();
        ((Map<?, ?>) hooks.get(null)).keySet().forEach(thread -> threads.add((Thread) thread));
        return threads;
    }

    private static void runHooks(Set<Thread> registeredBefore) throws ReflectiveOperationException {
        for (Thread hook : registeredHooks()) {
            if (!registeredBefore.contains(hook) && Runtime.getRuntime().removeShutdownHook(hook)) {
                HOOKS.add(hook);
            }
        }
        for (Runnable hook : HOOKS) {
            Thread thread = new Thread(hook);
            thread.setDaemon(true);
            thread.start();
            try {
                thread.join(HOOK_TIMEOUT_MS);
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
        }
        HOOKS.clear();
    }

    // Only the first call counts: a tool may catch what ends it and exit again.
    private static void exit(int status) {
        STATUS.compareAndSet(RUNNING, status);
        throw new Exited();
    }

    private static final class Exited extends Error {
        Exited() {
            super("", null, false, false);
        }

        // Tools that catch everything print what they caught.
        @Override
        public String toString() {
            return "";
        }
    }

    private static final class Switch extends OutputStream {
        private volatile OutputStream target = OutputStream.nullOutputStream();

        void to(OutputStream target) {
            this.target = target;
        }

        @Override
        public void write(int octet) throws java.io.IOException {
            target.write(octet);
        }

        @Override
        public void write(byte[] octets, int from, int count) throws java.io.IOException {
            target.write(octets, from, count);
        }
    }

    private static final class Feed extends FilterInputStream {
        Feed() {
            super(InputStream.nullInputStream());
        }

        void from(String text) {
            in = new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8));
        }

        @Override
        public void close() {
            // The next tool reads on.
        }
    }
}
