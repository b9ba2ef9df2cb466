package mmgateway;

import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.Serializable;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;

import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.api.java.UDF1;

/**
 * Columns of alert packets, of their first bytes only. What it does with which packet is said in
 * broker/decode.py; how the records of a set of layouts are read is written into it by
 * broker/javarecords.py.
 *
 * It is compiled by the compiler that Spark has for its own code, which knows Java 8 without
 * lambdas. It has no state of its own: many threads may use one reader.
 */
public final class PacketReader implements UDF1, Serializable {
    private static final long serialVersionUID = 1L;

    private static final byte[] MAGIC = {'O', 'b', 'j', 1, 4};
    private static final byte[] CODEC = latin("\u0014avro.codec\u0008null");
    private static final byte[] SCHEMA = latin("\u0016avro.schema");
    private static final int SYNC_BYTES = 16, MESSAGE_START_BYTES = 5, VARINT_BYTES = 10;
    private static final int MAX_STRING_BYTES = 1 << 20;
    // An entry of a light curve becomes ten numbers: were it but a byte, memory would end first.
    private static final int MIN_ENTRY_BYTES = 8, MAX_ENTRIES = 1 << 14;
    private static final String JVM = "jvm", PYTHON = "python";

    /** Whether slots are given as they are, of records that are whole and sound to their end. */
    private boolean whole;
    /** Slots of each column, of which the first with a value counts; and those that are scaled. */
    private int[][] columns;
    private boolean[] scaled;
    private int slots;
    private double[] scales;
    private int[] restBytes;
    private int[] messageIds;
    private int[] messageLayouts;
    private byte[][] texts;
    private int[] textLayouts;

    /** A reader of what is described, as broker/javarecords.py writes it. */
    public PacketReader of(byte[] description) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(description));
        PacketReader reader = new PacketReader();
        reader.whole = in.readInt() != 0;
        reader.slots = in.readInt();
        reader.columns = new int[in.readInt()][];
        reader.scaled = new boolean[reader.columns.length];
        for (int i = 0; i < reader.columns.length; i++) {
            reader.scaled[i] = in.readInt() != 0;
            reader.columns[i] = ints(in);
        }
        int n = in.readInt();
        reader.scales = new double[n];
        reader.restBytes = new int[n];
        for (int i = 0; i < n; i++) {
            reader.scales[i] = in.readDouble();
            reader.restBytes[i] = in.readInt();
        }
        reader.messageIds = ints(in);
        reader.messageLayouts = ints(in);
        reader.texts = new byte[in.readInt()][];
        for (int i = 0; i < reader.texts.length; i++) {
            reader.texts[i] = new byte[in.readInt()];
            in.readFully(reader.texts[i]);
        }
        reader.textLayouts = ints(in);
        return reader;
    }

    private static int[] ints(DataInputStream in) throws IOException {
        int[] found = new int[in.readInt()];
        for (int i = 0; i < found.length; i++) {
            found[i] = in.readInt();
        }
        return found;
    }

    /**
     * Row of the columns, the route and the number of a schema that is not known; or of the slots,
     * and null where not all of the packet is read.
     */
    public Object call(Object packet) {
        byte[] value = (byte[]) packet;
        try {
            if (value != null && startsWith(value, 0, MAGIC, 4)) {
                return container(value);
            }
            if (value != null && value.length > 0 && value[0] == 0) {
                return message(value);
            }
        } catch (Broken broken) {
            return row(null, 0, JVM, null);
        } catch (IndexOutOfBoundsException tooShort) {
            // Small fields leave it to Java to see the end of the packet.
            return row(null, 0, JVM, null);
        }
        return row(null, 0, JVM, null);
    }

    private Object message(byte[] value) {
        if (value.length < MESSAGE_START_BYTES) {
            return row(null, 0, PYTHON, null);
        }
        int id = ByteBuffer.wrap(value, 1, 4).getInt();
        for (int i = 0; i < messageIds.length; i++) {
            if (messageIds[i] == id) {
                return record(value, MESSAGE_START_BYTES, value.length, messageLayouts[i]);
            }
        }
        boolean hasBody = value.length > MESSAGE_START_BYTES;
        return row(null, 0, PYTHON, hasBody ? Long.valueOf(id & 0xFFFFFFFFL) : null);
    }

    private Object container(byte[] value) {
        int text = -1;
        // Writers have both orders of the two keys, some of them from packet to packet.
        boolean codecFirst = startsWith(value, MAGIC.length, CODEC, CODEC.length);
        int at = MAGIC.length + (codecFirst ? CODEC.length : 0);
        if (startsWith(value, 0, MAGIC, MAGIC.length)
            && startsWith(value, at, SCHEMA, SCHEMA.length)) {
            at += SCHEMA.length;
            long length = varint(value, at);
            at = afterVarint(value, at);
            for (int i = 0; i < texts.length && text < 0; i++) {
                if (texts[i].length == length && startsWith(value, at, texts[i], texts[i].length)) {
                    text = i;
                    at += texts[i].length;
                }
            }
        }
        if (text >= 0 && !codecFirst) {
            text = startsWith(value, at, CODEC, CODEC.length) ? text : -1;
            at += CODEC.length;
        }
        if (text < 0 || at >= value.length || value[at] != 0) {
            return row(null, 0, PYTHON, null);
        }
        return block(value, at + 1, textLayouts[text]);
    }

    private Object block(byte[] value, int sync, int layout) {
        int at = sync + SYNC_BYTES;
        long count = varint(value, at);
        at = afterVarint(value, at);
        long size = varint(value, at);
        at = afterVarint(value, at);
        long rest = value.length - SYNC_BYTES - (at + size);
        if (count > 1 || (count == 1 && size >= 0 && rest > 0)) {
            return row(null, 0, PYTHON, null);
        }
        int end = value.length - SYNC_BYTES;
        if (count != 1 || rest != 0
            || !Arrays.equals(value, sync, sync + SYNC_BYTES, value, end, value.length)) {
            throw Broken.PACKET;
        }
        return record(value, at, end, layout);
    }

    private Object record(byte[] value, int begin, int end, int layout) {
        Object[] read = new Object[slots];
        int at = read(layout, value, begin, end, read);
        // Negative where the record went on behind its end.
        int rest = end - at;
        if (whole ? rest != 0 : rest < restBytes[layout]) {
            throw Broken.PACKET;
        }
        return row(read, scales[layout], JVM, null);
    }

    private Object row(Object[] read, double scale, String route, Object schemaId) {
        if (whole) {
            return read == null ? null : RowFactory.create(read);
        }
        Object[] cells = new Object[columns.length + 2];
        for (int i = 0; read != null && i < columns.length; i++) {
            Object cell = null;
            for (int j = 0; cell == null && j < columns[i].length; j++) {
                cell = read[columns[i][j]];
            }
            if (scaled[i] && cell != null && scale != 1.0) {
                cell = Double.valueOf(((Double) cell).doubleValue() * scale);
            }
            cells[i] = cell;
        }
        cells[columns.length] = route;
        cells[columns.length + 1] = schemaId;
        return RowFactory.create(cells);
    }

    // Records --------------------------------------------------------------------------------

    /* The methods that read records of the layouts. */

    // Values ---------------------------------------------------------------------------------

    private static double float32(byte[] b, int p) {
        return ByteBuffer.wrap(b).order(ByteOrder.LITTLE_ENDIAN).getFloat(p);
    }

    private static double float64(byte[] b, int p) {
        return ByteBuffer.wrap(b).order(ByteOrder.LITTLE_ENDIAN).getDouble(p);
    }

    private static int int32(byte[] b, int p) {
        long number = varint(b, p);
        if (number != (int) number) {
            throw Broken.PACKET;
        }
        return (int) number;
    }

    private static String string(byte[] b, int p, int end) {
        int next = afterBytes(b, p, end);
        int begin = afterVarint(b, p);
        if (next - begin > MAX_STRING_BYTES) {
            throw Broken.PACKET;
        }
        return text(b, begin, next);
    }

    /** Text that is one: with other bytes the packet is broken. */
    private static String soundString(byte[] b, int p, int end) {
        String found = string(b, p, end);
        if (found == null) {
            throw Broken.PACKET;
        }
        return found;
    }

    /** Text, or null where the bytes are none. */
    private static String text(byte[] b, int begin, int end) {
        int p = begin;
        while (p < end && b[p] >= 0) {
            p++;
        }
        if (p == end) {
            return new String(b, begin, end - begin, StandardCharsets.ISO_8859_1);
        }
        try {
            ByteBuffer bytes = ByteBuffer.wrap(b, begin, end - begin);
            return StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
        } catch (CharacterCodingException damaged) {
            return null;
        }
    }

    // Bytes ----------------------------------------------------------------------------------

    /** Number of a union's branch. */
    private static int branch(byte[] b, int p, int branches) {
        long number = varint(b, p);
        if (number < 0 || number >= branches) {
            throw Broken.PACKET;
        }
        return (int) number;
    }

    /** How many items an array's or a map's block has; an item takes a byte at least. */
    private static long items(byte[] b, int p, int end) {
        long count = varint(b, p);
        if (count > end - p) {
            throw Broken.PACKET;
        }
        return count;
    }

    /** The same where items of every block are read; either sign has no more than there are bytes. */
    private static long everyItem(byte[] b, int p, int end) {
        long count = varint(b, p);
        if (count > end - p || count < p - end) {
            throw Broken.PACKET;
        }
        return count;
    }

    /** The same for a light curve of which some entries were read. */
    private static long entries(byte[] b, int p, int end, int before) {
        long count = varint(b, p);
        int most = Math.min((end - p) / MIN_ENTRY_BYTES, MAX_ENTRIES - before);
        if (count > most || count < -most) {
            throw Broken.PACKET;
        }
        return count;
    }

    private static int after(int p, long bytes, int end) {
        if (bytes < 0 || bytes > end - p) {
            throw Broken.PACKET;
        }
        return p + (int) bytes;
    }

    private static int afterBytes(byte[] b, int p, int end) {
        long length = varint(b, p);
        return after(afterVarint(b, p), length, end);
    }

    private static int afterText(byte[] b, int p, int end) {
        int next = afterBytes(b, p, end);
        int begin = afterVarint(b, p);
        int at = begin;
        while (at < next && b[at] >= 0) {
            at++;
        }
        if (at < next && text(b, begin, next) == null) {
            throw Broken.PACKET;
        }
        return next;
    }

    private static int afterVarint(byte[] b, int p) {
        int next = p;
        while (b[next++] < 0) {
            if (next - p == VARINT_BYTES) {
                throw Broken.PACKET;
            }
        }
        return next;
    }

    private static long varint(byte[] b, int p) {
        long zigzag = 0;
        for (int i = 0; i < VARINT_BYTES; i++) {
            byte part = b[p + i];
            zigzag |= (long) (part & 0x7F) << (7 * i);
            if (part >= 0) {
                return (zigzag >>> 1) ^ -(zigzag & 1);
            }
        }
        throw Broken.PACKET;
    }

    private static boolean startsWith(byte[] b, int p, byte[] part, int length) {
        return length <= b.length - p && Arrays.equals(b, p, p + length, part, 0, length);
    }

    private static byte[] latin(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    /** A packet that is broken: one object, since a stack trace costs more than a packet. */
    private static final class Broken extends RuntimeException {
        private static final long serialVersionUID = 1L;
        static final Broken PACKET = new Broken();

        private Broken() {
            super("broken packet", null, false, false);
        }
    }
}
